"""Figures of a row: as evaluate's for the same poses; scale free or not; the largest model."""

import given_scene
import numpy as np
import pytest

from vggt3_ros.benchmarks.peers.outcome import Outcome
from vggt3_ros.benchmarks.peers.scoring import CURVE, score
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3

TURNED = se3.exp(np.array([1.0, -2.0, 0.5, 0.3, 0.8, -0.4]))  # a map's frame in the truth's


@pytest.fixture
def truth(tmp_path):
    return given_scene.make(tmp_path, keyframes=20, queries=4)[1]


def moved(poses, scale=1.0, noise=0.0):
    out = se3.inverse(TURNED) @ poses
    out[:, :3, 3] *= scale
    return out + np.random.default_rng(1).normal(0, 1, out.shape) * noise * (
        np.arange(16).reshape(4, 4) % 4 == 3
    ) * (np.arange(16).reshape(4, 4) < 12)


def outcome(T_map_cam, metric=True, model=None, queries=None):
    model = np.zeros(len(T_map_cam), int) if model is None else model
    seconds = None if queries is None else np.full(len(queries), 0.2)
    return Outcome(T_map_cam, model, metric, 3.0, 2.0, queries, seconds)


def test_errors_are_those_of_the_trajectory(truth):
    estimate = moved(truth.keyframes, noise=0.02)
    row = score(outcome(estimate), truth)
    expected = trajectory_error(estimate, truth.keyframes, truth.stamps_ns)
    assert row["ate_m"] == expected.ate_m and 0.01 < row["ate_m"] < 0.06
    assert row["ate_scaled_m"] <= row["ate_m"] and row["registered"] == 1 and row["models"] == 1


def test_scale_is_fitted_where_it_is_free_and_counts_where_it_is_not(truth):
    poses, queries = moved(truth.keyframes, 0.2), moved(truth.queries, 0.2)
    free = score(outcome(poses, False, queries=queries), truth)
    assert "ate_m" not in free and free["ate_scaled_m"] < 1e-9
    assert free["scale"] == pytest.approx(5) and free["localization"]["within_5cm_5deg"] == 1
    metric = score(outcome(poses, True, queries=queries), truth)
    assert metric["ate_m"] > 0.3 and metric["ate_scaled_m"] < 1e-9
    assert metric["localization"]["within_10cm_10deg"] == 0


def test_a_query_counts_by_how_far_it_is_off(truth):
    queries = moved(truth.queries)
    queries[0] = np.nan
    queries[1, :3, 3] += 0.07 * queries[1, :3, 0]
    queries[2] = queries[2] @ se3.exp(np.array([0, 0, 0, np.radians(7), 0, 0]))
    row = score(outcome(moved(truth.keyframes), queries=queries), truth)
    found = row["localization"]
    assert (found["localized"], found["within_5cm_5deg"], found["within_10cm_10deg"]) == (
        0.75,
        0.25,
        0.75,
    )
    curve = dict(zip(CURVE, row["recall_curve"]))
    assert (curve[5.0], curve[10.0]) == (0.25, 0.75) and (curve[6.5], curve[7.5]) == (0.25, 0.75)
    assert sorted(row["recall_curve"]) == row["recall_curve"]
    assert found["seconds_per_query"] == pytest.approx(0.2)


def test_only_the_largest_model_counts(truth):
    estimate, model = moved(truth.keyframes), np.zeros(20, int)
    estimate[:6] = se3.exp(np.array([3.0, 0, 0, 0, 0, 1.0])) @ estimate[:6]
    model[:6], model[6], estimate[6] = 1, -1, np.nan
    row = score(outcome(estimate, model=model), truth)
    assert (row["models"], row["registered"]) == (2, 13 / 20) and row["ate_m"] < 1e-9
    together = np.where(model < 0, -1, 0)
    assert score(outcome(estimate, model=together), truth)["ate_m"] > 0.2


def test_too_few_poses_are_a_failure_with_words(truth):
    model = np.full(20, -1)
    model[:2] = 0
    row = score(outcome(moved(truth.keyframes), model=model), truth)
    assert "too few" in row["failure"] and row["registered"] == 0.1


def test_known_poses_are_not_aligned(truth):
    queries = truth.queries.copy()
    queries[:, 0, 3] += 0.08
    row = score(outcome(truth.keyframes, queries=queries), truth, knows_poses=True)
    assert "ate_m" not in row and row["localization"]["median_m"] == pytest.approx(0.08)
