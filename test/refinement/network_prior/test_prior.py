"""The network's predictions help the back end where they can, and never harm it."""

import numpy as np
import pytest
from stand_in_network import corridor, room_tour, stand_in

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.datasets.drift import drifting_odometry, trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.alignment import DegenerateMotion
from vggt3_ros.refinement.network_prior.prior import (
    beside_loops,
    covisible,
    make_prior,
    metric_depth,
    place_query,
    scale_from_depth,
)
from vggt3_ros.refinement.pose_graph import Edge, solve

GOOD, FAIR, POOR = (0.01, 0.005, 0.02, 0.2), (0.02, 0.01, 0.03, 0.2), (0.1, 0.05, 0.15, 0.2)


def solved_error(truth, odometry, covariances, edges):
    solution = solve(odometry, covariances, list(edges), PoseGraphConfig(), covariances=False)
    return trajectory_error(solution.T_map_cam, truth)


def scene(seed, drift, quality):
    truth = room_tour()
    odometry, covariances = drifting_odometry(truth, seed, ate=drift)
    network, confidence, _ = stand_in(truth, 0.37, seed, *quality)
    return truth, odometry, covariances, make_prior(odometry, network, confidence)


def loops(truth, seed, count=15):
    """Measured motions between places of the two laps, 2 cm and 0.01 rad off."""
    rng = np.random.default_rng(seed)
    half, noise = len(truth) // 2, np.array([0.02] * 3 + [0.01] * 3)
    for source in rng.choice(half, count, replace=False) + half:
        motion = (
            se3.inverse(truth[source])
            @ truth[source - half]
            @ se3.exp(noise * rng.standard_normal(6))
        )
        yield Edge(int(source), int(source - half), motion, np.diag(noise**-2))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("drift", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("quality", [GOOD, FAIR, POOR])
def test_the_trajectory_is_never_worse_than_without_the_network(seed, drift, quality):
    truth, odometry, covariances, prior = scene(seed, drift, quality)
    assert solved_error(truth, odometry, covariances, prior.edges) <= drift * 1.01


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("quality", [GOOD, FAIR, POOR])
def test_verified_loops_are_not_made_worse(seed, quality):
    truth, odometry, covariances, prior = scene(seed, 0.2, quality)
    closed = list(loops(truth, seed))
    without = solved_error(truth, odometry, covariances, closed)
    assert (
        solved_error(truth, odometry, covariances, closed + beside_loops(prior.edges, closed))
        <= without * 1.01
    )


def test_the_network_has_less_say_only_between_keyframes_that_loops_tie():
    truth, _, _, prior = scene(0, 0.2, FAIR)
    closed = [edge for edge in loops(truth, 0) if edge.source < 100]
    told = list(zip(prior.edges, beside_loops(prior.edges, closed)))
    weaker = [
        before for before, after in told if after.information[0, 0] < before.information[0, 0]
    ]
    assert weaker and all(min(edge.source, edge.target) < 100 for edge in weaker)
    assert any(before is after for before, after in told)
    assert beside_loops(prior.edges, []) == list(prior.edges)
    # neighbours tie nobody far apart
    steps = [Edge(i + 1, i, np.eye(4), np.eye(6)) for i in range(len(truth) - 1)]
    assert all(
        before is after for before, after in zip(prior.edges, beside_loops(prior.edges, steps))
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("quality", [GOOD, FAIR])
def test_a_good_network_halves_a_drift_that_the_odometry_admits(seed, quality):
    """Odometry whose covariances are on the safe side, as front ends' are."""
    truth, odometry, covariances, prior = scene(seed, 0.3, quality)
    assert solved_error(truth, odometry, 25 * covariances, prior.edges) < 0.65 * 0.3


def test_a_network_without_a_shared_scale_says_nothing():
    truth = corridor()
    network, confidence, _ = stand_in(truth, 1.0)
    still = truth.copy()
    still[:, :3, 3] = 1e-4 * np.random.default_rng(0).standard_normal((len(truth), 3))
    with pytest.raises(DegenerateMotion):
        make_prior(still, network, confidence)


def test_no_edge_ends_at_an_outlier():
    truth = room_tour()
    network, confidence, wrong = stand_in(truth, 0.37)
    edges = make_prior(truth, network, confidence).edges
    assert len(edges) > 20
    assert not any(wrong[edge.source] or wrong[edge.target] for edge in edges)
    for edge in edges:
        expected = se3.inverse(truth[edge.source]) @ truth[edge.target]
        assert np.linalg.norm((se3.inverse(expected) @ edge.T_source_target)[:3, 3]) < 0.3


def test_depth_becomes_metric_and_doubtful_pixels_unknown():
    depth = np.array([[2.0, 4.0], [1.0, 3.0]])
    confidence = np.array([[3.0, 1.0], [2.0, 1.6]])
    np.testing.assert_allclose(metric_depth(depth, confidence, 0.5), [[1.0, 0.0], [0.5, 1.5]])


def test_scale_from_a_depth_sensor_ignores_a_third_of_wrong_pixels():
    rng = np.random.default_rng(0)
    network = rng.uniform(1, 5, (30, 40))
    sensor = 0.42 * network * (1 + 0.02 * rng.standard_normal(network.shape))
    sensor[:10] *= 3
    confidence = np.ones_like(network)
    assert scale_from_depth(
        sensor, network, np.where(np.arange(30)[:, None] < 10, 0.5, 1.0) * confidence
    ) == pytest.approx(0.42, rel=0.02)
    assert np.isnan(scale_from_depth(np.zeros((30, 40)), network, confidence))


def box_depth(T_world_cam, K, size, rows=12, columns=16, half=(4.0, 3.5, 2.0)):
    """Depth along z (rows, columns) of the inside of a box around the origin."""
    height, width = size
    x = ((np.arange(columns) + 0.5) * width / columns - 0.5 - K[0, 2]) / K[0, 0]
    y = ((np.arange(rows) + 0.5) * height / rows - 0.5 - K[1, 2]) / K[1, 1]
    rays = (
        np.stack([*np.meshgrid(x, y), np.ones((rows, columns))], axis=-1) @ T_world_cam[:3, :3].T
    )
    with np.errstate(divide="ignore"):
        hits = (np.where(rays > 0, half, np.negative(half)) - T_world_cam[:3, 3]) / rays
    return hits.min(axis=-1)


def test_frames_that_see_the_same_surface_are_candidates_and_others_are_not():
    truth = room_tour(60)
    K, size = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), (240, 320)
    depth = np.array([box_depth(pose, K, size) for pose in truth])
    pairs = covisible(truth, np.tile(K, (60, 1, 1)), depth, size)
    overlaps = [overlap for _, _, overlap in pairs]
    assert overlaps == sorted(overlaps, reverse=True) and len(pairs) > 20
    forward = truth[:, :3, 2]
    for i, j, _ in pairs:
        assert i - j > 3
        assert forward[i] @ forward[j] > 0.3  # nobody sees the wall behind
    second_lap = {(i, j) for i, j, _ in pairs if i - j > 20}
    assert len(second_lap) > 15  # the same walls on the second lap: what loops are made of


def test_a_surface_that_hides_another_is_not_the_same():
    K, size = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), (240, 320)
    poses = np.tile(np.eye(4), (6, 1, 1))
    depth = np.full((6, 12, 16), 2.0)
    depth[0] = 1.0  # something stands in front
    pairs = {(i, j) for i, j, _ in covisible(poses, np.tile(K, (6, 1, 1)), depth, size)}
    assert (5, 1) in pairs and (5, 0) not in pairs and (4, 0) not in pairs


def test_a_query_is_placed_among_keyframes_that_the_map_has_moved():
    truth = room_tour()
    network, confidence, _ = stand_in(truth, 0.37, 0, 0.005, 0.002, 0, 0.2)
    alignment = make_prior(truth, network, confidence).alignment
    near = int(np.flatnonzero(alignment.trusted)[30])
    correction = se3.exp(np.array([1.0, -2.0, 0.5, 0.1, 0.2, 0.3]))
    offset = se3.exp(np.array([0.1, 0.05, 0.0, 0.05, 0.0, 0.0]))
    between_frames = alignment.poses(network)[near] @ offset
    query = between_frames.copy()  # back to the network's frame
    query[:3, :3] = alignment.rotation.T @ between_frames[:3, :3]
    query[:3, 3] = (
        alignment.rotation.T @ (between_frames[:3, 3] - alignment.translation) / alignment.scale
    )
    placed = place_query(query, network, correction @ truth, alignment)
    error = se3.inverse(correction @ truth[near] @ offset) @ placed
    assert np.linalg.norm(error[:3, 3]) < 0.03 and se3.rotation_angle(error) < 0.01
