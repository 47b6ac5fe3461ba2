"""Scores of localizations, and how often the truth lies where their covariances say."""

from types import SimpleNamespace

import numpy as np
import pytest
from round_trips import round_trip

from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.geometry import se3

TRUTH = round_trip(50)


def answer(pose, seconds=0.1, covariance=None):
    return SimpleNamespace(T_map_cam=pose, seconds=seconds, covariance=covariance)


def test_localizations_are_scored_over_all_queries_in_the_frame_of_the_truth():
    T_truth_map = se3.exp([1, 2, 3, 0.1, 0.2, 0.3])
    offsets = (
        [0.01, 0, 0, 0, 0, 0],
        [0, 0.04, 0, 0, 0, np.radians(1)],
        [0.08, 0, 0, 0, 0, 0],
        [0, 0, 0.02, np.radians(7), 0, 0],
    )
    answers = [
        answer(se3.inverse(T_truth_map) @ T @ se3.exp(offset), 0.1 * (k + 1))
        for k, (T, offset) in enumerate(zip(TRUTH, offsets))
    ]
    score = score_localizations(answers + [answer(None, 0.5)], TRUTH[:5], T_truth_map)
    assert (score.queries, score.localized) == (5, 0.8)
    assert score.within_5cm_5deg == pytest.approx(
        2 / 5
    ) and score.within_10cm_10deg == pytest.approx(4 / 5)
    assert score.median_m == pytest.approx(0.04) and score.median_deg == pytest.approx(1)
    assert score.seconds_per_query == pytest.approx(0.3)
    assert score.as_dict()["within_5cm_5deg"] == score.within_5cm_5deg


def test_honest_covariances_hold_the_truth_in_their_ellipsoids_19_times_in_20():
    """Errors are drawn in the axes of the map, which is turned against the truth; one covariance
    claims too much, one too little.
    """
    rng, T_truth_map = np.random.default_rng(0), se3.exp([1, 2, 3, 0.1, 0.2, 2.3])
    spread = rng.standard_normal((6, 6)) * [[0.03], [0.01], [0.02], [0.01], [0.02], [0.005]]
    covariance, truth = spread @ spread.T, [TRUTH[k % len(TRUTH)] for k in range(2000)]
    poses = []
    for T in truth:
        off, pose = spread @ rng.standard_normal(6), se3.inverse(T_truth_map) @ T
        turned = se3.exp([0, 0, 0, *off[3:]])[:3, :3] @ pose[:3, :3]
        poses.append(se3.from_rotation_translation(turned, pose[:3, 3] + off[:3]))
    for claimed, low, high in (
        (covariance, 0.93, 0.97),
        (covariance / 4, 0.0, 0.7),
        (covariance * 4, 0.99, 1.0),
    ):
        score = score_localizations(
            [answer(pose, covariance=claimed) for pose in poses], truth, T_truth_map
        )
        assert low <= score.in_ellipsoid <= high and low <= score.in_pose_ellipsoid <= high
    assert np.isnan(score_localizations([answer(poses[0])], truth[:1], T_truth_map).in_ellipsoid)


def test_refusing_queries_cannot_better_the_median():
    answers = [answer(T) for T in TRUTH[:3]] + [answer(None)] * 4
    assert score_localizations(answers, TRUTH[:7], np.eye(4)).median_m == np.inf


def test_scores_without_queries_or_of_other_lengths_are_refused():
    for answers, truth in (([], TRUTH[:0]), ([answer(np.eye(4))], TRUTH[:2])):
        with pytest.raises(ValueError, match="answers for"):
            score_localizations(answers, truth, np.eye(4))
