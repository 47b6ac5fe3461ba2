"""Scores of trajectories and localizations against errors put in by hand, and how they are
reported.
"""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from evo.core.trajectory import PoseTrajectory3D
from round_trips import round_trip

from vggt3_ros.evaluation.localization import score_localizations
from vggt3_ros.evaluation.report import plot_trajectories, table, write_json
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3

TRUTH = round_trip(50)
STAMPS = 10**18 + 10**8 * np.arange(50)


def test_a_moved_trajectory_has_no_error_and_the_alignment_brings_it_back():
    moved = se3.exp([3, -2, 1, 0.3, 0.2, -2.0])
    error = trajectory_error(moved @ TRUTH, TRUTH, STAMPS)
    assert error.ate_m < 1e-6 and error.rotation_deg < 1e-4
    np.testing.assert_allclose(error.T_truth_estimate @ moved, np.eye(4), atol=1e-6)


def test_ate_is_the_root_mean_square_of_what_alignment_leaves():
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.standard_normal((50, 3))
    estimate = TRUTH.copy()
    estimate[:, :3, 3] += noise
    error = trajectory_error(estimate, TRUTH, STAMPS)
    assert error.ate_m == pytest.approx(np.sqrt((noise**2).sum(axis=1).mean()), rel=0.1)
    assert error.ate_m == pytest.approx(np.sqrt(np.mean(error.distances_m**2)))


def test_rotation_error_is_in_degrees():
    turned = TRUTH @ se3.exp(
        np.stack(
            [np.array([0, 0, 0, np.radians(2) * sign, 0, 0]) for sign in np.tile([1, -1], 25)]
        )
    )
    assert trajectory_error(turned, TRUTH, STAMPS).rotation_deg == pytest.approx(2, abs=0.01)


def test_scale_is_not_corrected():
    half = TRUTH.copy()
    half[:, :3, 3] *= 0.5
    assert trajectory_error(half, TRUTH, STAMPS).ate_m > 0.5


def test_keyframes_without_truth_are_left_out():
    gaps = TRUTH.copy()
    gaps[::3] = np.nan
    error = trajectory_error(TRUTH, gaps, STAMPS)
    assert (
        error.ate_m < 1e-9 and len(error.distances_m) == np.isfinite(gaps).all(axis=(1, 2)).sum()
    )
    gaps[2:] = np.nan
    with pytest.raises(ValueError, match="of 50 keyframes have a true pose; 3 are needed"):
        trajectory_error(TRUTH, gaps, STAMPS)


def straight(noise_m, noise_rad, count=60, seed=0):
    """A drive along a straight street: (estimate, truth)."""
    rng = np.random.default_rng(seed)
    truth = np.tile(se3.exp([2.0, 1.0, 0.5, 0.3, -0.4, 0.8]), (count, 1, 1)) @ se3.exp(
        np.linspace(0, 1, count)[:, None] * [0, 0, 30.0, 0, 0, 0]
    )
    noise = np.concatenate(
        [noise_m * rng.standard_normal((count, 3)), noise_rad * rng.standard_normal((count, 3))],
        axis=1,
    )
    return se3.exp([5.0, -2.0, 0.1, 0.4, 0.2, 1.5]) @ truth @ se3.exp(noise), truth


@pytest.mark.parametrize("noise_m", [0.0, 1e-9, 0.02, 0.3])
def test_on_a_straight_street_orientations_tell_the_turn_about_it(noise_m):
    for seed in range(8):
        estimate, truth = straight(noise_m, np.radians(1), seed=seed)
        error = trajectory_error(estimate, truth, 10**18 + 10**8 * np.arange(60))
        assert error.aligned_by == "positions and orientations"
        assert error.rotation_deg < 3 and error.ate_m < 2 * noise_m + 0.01


def test_a_camera_that_stands_is_aligned_by_its_orientations():
    rng = np.random.default_rng(0)
    truth = np.tile(se3.exp([2.0, 1.0, 0.5, 0.3, -0.4, 0.8]), (20, 1, 1)) @ se3.exp(
        np.concatenate([np.zeros((20, 3)), rng.normal(0, 0.5, (20, 3))], 1)
    )
    error = trajectory_error(
        se3.exp([5.0, -2.0, 0.1, 0.4, 0.2, 1.5]) @ truth, truth, 10**18 + 10**8 * np.arange(20)
    )
    assert (
        error.ate_m < 1e-6
        and error.rotation_deg < 1e-3
        and error.aligned_by == "positions and orientations"
    )


@pytest.mark.parametrize("correct_scale", [False, True])
def test_where_positions_determine_the_alignment_it_is_that_of_evo(correct_scale):
    """However bad the orientations are, and where the path has some breadth."""
    rng = np.random.default_rng(1)
    estimate = (
        se3.exp([3, -2, 1, 0.3, 0.2, -2.0])
        @ TRUTH
        @ se3.exp(rng.normal(0, (0.05,) * 3 + (0.3,) * 3, (50, 6)))
    )
    ours = trajectory_error(estimate, TRUTH, STAMPS, correct_scale)
    theirs, truth = (
        PoseTrajectory3D(poses_se3=list(T), timestamps=STAMPS / 1e9) for T in (estimate, TRUTH)
    )
    rotation, translation, scale = theirs.align(truth, correct_scale=correct_scale)
    assert ours.aligned_by == "positions" and ours.scale == pytest.approx(scale)
    np.testing.assert_allclose(
        ours.T_truth_estimate[:3], np.column_stack([rotation, translation]), atol=1e-9
    )


def test_the_table_says_when_orientations_took_part_and_why_a_map_is_empty():
    turned = dict(
        RESULT,
        corrected=dict(RESULT["corrected"], aligned_by="positions and orientations"),
        map={"points": 0},
        empty=[
            "the map is empty: the depth of the keyframes is 9.0 to 40.0 m (median 20.0 m), but map.max_depth is 5 m: raise it"
        ],
    )
    text = table(turned)
    assert (
        "(corrected aligned by orientations too" in text
        and "map.max_depth is 5 m: raise it" in text
    )
    assert "orientations" not in table(RESULT) and "warning" not in table(RESULT)


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


LOCALIZATION = dict(
    queries=5,
    localized=0.8,
    median_m=0.0123,
    median_deg=0.45,
    within_5cm_5deg=0.6,
    within_10cm_10deg=0.8,
    seconds_per_query=0.21,
    in_ellipsoid=0.943,
    in_pose_ellipsoid=0.921,
)
RESULT = {
    "odometry": {"ate_m": 0.1934, "rotation_deg": 3.2},
    "corrected": {"ate_m": 0.0412, "rotation_deg": 1.1},
    "localization": LOCALIZATION,
    "localization_memory": dict(LOCALIZATION, median_m=np.inf),
    "map": {"points": 123456, "median_error_m": 0.0234},
    "network": {"summary": "not used: too few", "segment_scales": [1.0, np.nan]},
    "seconds": {"features": 4.2, "total": 33.0},
    "peak_memory_mb": 1234.5,
}


def test_the_table_tells_every_figure():
    text = table(RESULT)
    for figure in (
        "94.3%",
        "92.1%",
        "19.34 cm",
        "4.12 cm",
        "1.23 cm",
        "0.45 deg",
        "60.0%",
        "80.0%",
        "0.21 s",
        "123,456",
        "2.34 cm",
        "features 4.2",
        "33.0",
        "1234 MB",
        "network: not used: too few",
    ):
        assert figure in text, figure
    assert "none: fewer than half localized" in text and "inf" not in text


def test_a_table_without_queries_or_true_map_is_shorter():
    text = table(
        {
            k: v
            for k, v in dict(RESULT, map={"points": 7}).items()
            if not k.startswith("localization")
        }
    )
    assert "localization" not in text and "map: 7 points" in text and "error" not in text


def test_json_holds_the_figures_and_null_where_there_is_none(tmp_path):
    write_json(RESULT, tmp_path / "out.json")
    read = json.loads(
        (tmp_path / "out.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert read["localization_memory"]["median_m"] is None and read["network"][
        "segment_scales"
    ] == [1.0, None]
    assert read["corrected"] == RESULT["corrected"] and read["map"] == RESULT["map"]


def test_the_plot_is_an_image(tmp_path):
    positions = TRUTH[:, :3, 3]
    plot_trajectories(
        tmp_path / "plot.png",
        {"ground truth": positions, "odometry": positions + 0.2, "corrected": positions},
        "a title",
    )
    image = cv2.imread(str(tmp_path / "plot.png"))
    assert image.shape[0] > 300 and image.std() > 5
