"""The pose graph: drift goes, wrong loops go, and the covariance says how sure it is."""

import numpy as np
import pytest
from pose_graph_problems import LOOP, STEP, noisy_chain, problem
from round_trips import round_trip
from scipy.stats import chi2

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.datasets.drift import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.pose_graph import Edge


@pytest.mark.parametrize("seed", range(4))
def test_false_loops_are_dropped_and_cost_nothing(seed):
    truth, odometry, noise, loops, rng = problem(seed)
    config = PoseGraphConfig()
    clean = pose_graph.solve(odometry, noise, loops, config)
    false = []
    for _ in range(max(1, round(len(loops) / 9))):  # 10 % of all
        i, j = sorted(rng.choice(len(truth), 2, replace=False))[::-1]
        wrong = np.concatenate([rng.uniform(-3, 3, 3), rng.uniform(-1.5, 1.5, 3)])
        false.append(
            Edge(
                int(i),
                int(j),
                se3.inverse(truth[i]) @ truth[j] @ se3.exp(wrong),
                np.diag(1 / LOOP**2),
            )
        )
    solution = pose_graph.solve(odometry, noise, loops + false, config)
    assert not solution.kept[len(loops) :].any()
    assert solution.kept[: len(loops)].all() and clean.kept.all()
    before, after, best = (
        trajectory_error(T, truth) for T in (odometry, solution.T_map_cam, clean.T_map_cam)
    )
    assert before > 0.05 and best < before / 3
    assert after < 1.05 * best + 1e-3
    assert (solution.residual_m[len(loops) :] > config.loop_residual_translation).any()


def test_false_loops_that_agree_with_each_other_are_dropped_too():
    truth, odometry, noise, loops, _ = problem(7)
    shifted = se3.exp([1.5, 0, 0, 0, 0, 0])  # as from two places that look the same
    false = [
        Edge(
            60 + k,
            5 + k,
            se3.inverse(truth[60 + k]) @ shifted @ truth[5 + k],
            np.diag(1 / LOOP**2),
        )
        for k in range(5)
    ]
    solution = pose_graph.solve(odometry, noise, loops + false, PoseGraphConfig())
    assert not solution.kept[len(loops) :].any() and solution.kept[: len(loops)].mean() > 0.9
    assert trajectory_error(solution.T_map_cam, truth) < 0.05


@pytest.mark.parametrize("rounds", [1, 2, 6])
def test_dropped_loops_have_no_pull_however_few_rounds_there_are(rounds):
    truth, odometry, noise, loops, _rng = problem(5)
    false = [
        Edge(
            i,
            j,
            se3.inverse(truth[i]) @ truth[j] @ se3.exp([1.0, 0.5, 0, 0, 0.5, 0]),
            np.diag(1 / LOOP**2),
        )
        for i, j in ((70, 10), (55, 20), (45, 5))
    ]
    solution = pose_graph.solve(
        odometry, noise, loops + false, PoseGraphConfig(rejection_rounds=rounds)
    )
    assert not solution.kept[len(loops) :].any()
    kept = [loop for loop, kept in zip(loops, solution.kept) if kept]
    without = pose_graph.solve(odometry, noise, kept, PoseGraphConfig())
    np.testing.assert_allclose(solution.T_map_cam, without.T_map_cam, atol=1e-3)


def test_loops_dropped_for_others_sake_come_back():
    _truth, odometry, noise, loops, _ = problem(6)
    kept = np.ones(len(loops), bool)
    kept[::3] = False
    solution = pose_graph.solve(odometry, noise, loops, PoseGraphConfig(), kept=kept)
    assert solution.kept.all()
    best = pose_graph.solve(odometry, noise, loops, PoseGraphConfig())
    np.testing.assert_allclose(solution.T_map_cam, best.T_map_cam, atol=2e-3)


def test_without_loops_the_odometry_stays():
    _truth, odometry, noise, _, _ = problem(0)
    solution = pose_graph.solve(odometry, noise, [], PoseGraphConfig())
    np.testing.assert_allclose(solution.T_map_cam, odometry, atol=1e-6)


def test_the_first_keyframe_stays_where_it_is_whatever_the_start():
    truth, odometry, noise, loops, _ = problem(2)
    solution = pose_graph.solve(odometry, noise, loops, PoseGraphConfig())
    np.testing.assert_allclose(solution.T_map_cam[0], odometry[0], atol=1e-3)
    again = pose_graph.solve(odometry, noise, loops, PoseGraphConfig(), initial=truth)
    np.testing.assert_allclose(again.T_map_cam, solution.T_map_cam, atol=2e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_one_keyframe_or_two_are_a_graph(count):
    odometry = round_trip()[:count]
    solution = pose_graph.solve(
        odometry, np.tile(np.eye(6) * 1e-4, (count, 1, 1)), [], PoseGraphConfig()
    )
    np.testing.assert_allclose(solution.T_map_cam, odometry, atol=1e-9)
    assert np.linalg.eigvalsh(solution.covariances).min() > 0


def test_covariances_are_positive_definite_and_grow_away_from_the_anchor():
    _truth, odometry, noise, loops, _ = problem(1)
    alone, tied = (
        pose_graph.solve(odometry, noise, edges, PoseGraphConfig()).covariances
        for edges in ([], loops)
    )
    for covariances in (alone, tied):
        np.testing.assert_allclose(covariances, np.swapaxes(covariances, 1, 2), atol=1e-12)
        assert np.linalg.eigvalsh(covariances).min() > 0
    position = np.trace(alone[:, :3, :3], axis1=1, axis2=2)
    rotation = np.trace(alone[:, 3:, 3:], axis1=1, axis2=2)
    assert (
        (np.diff(rotation) > 0).all()
        and position[-1] > 20 * position[1]
        and position[20] > position[5]
    )
    assert np.trace(tied[-1]) < np.trace(alone[-1]) / 3


def test_covariance_of_one_step_is_in_map_axes_translation_first():
    start = se3.exp([1, 2, 3, 0.4, -1.1, 2.0])
    odometry = np.array([start, start @ se3.exp([0.3, 0, 0.2, 0, 0.7, 0])])
    deviation = np.array([0.05, 0.01, 0.02, 0.003, 0.03, 0.006])
    solution = pose_graph.solve(
        odometry, np.tile(np.diag(deviation**2), (2, 1, 1)), [], PoseGraphConfig()
    )
    turn = np.kron(np.eye(2), odometry[1, :3, :3])
    np.testing.assert_allclose(
        solution.covariances[1], turn @ np.diag(deviation**2) @ turn.T, atol=2e-6
    )


def test_covariance_of_a_chain_is_what_many_noisy_chains_scatter_by():
    rng = np.random.default_rng(3)
    truth = se3.exp([0, 0, 0, 0.5, 0.3, -1.0]) @ round_trip(30)[:12]
    deviation = np.array([0.02, 0.005, 0.01, 0.002, 0.01, 0.004])
    covariance = pose_graph.solve(
        truth, np.tile(np.diag(deviation**2), (12, 1, 1)), [], PoseGraphConfig()
    ).covariances[-1]
    ends = np.array([noisy_chain(truth, rng, deviation)[-1] for _ in range(1500)])
    scatter = ends @ se3.inverse(truth[-1])
    errors = np.concatenate([ends[:, :3, 3] - truth[-1, :3, 3], se3.log(scatter)[:, 3:]], axis=1)
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    whitened = np.cov((errors @ root).T)
    np.testing.assert_allclose(whitened, np.eye(6), atol=0.2)


@pytest.mark.parametrize("far", [0.0, 100.0])
def test_poses_scatter_by_their_covariances_on_either_side(far):
    """Normalised errors squared over many draws, with loops: near the anchor and far from it, at
    the origin and 100 m away, turned.
    """
    frame, draws, picked = se3.exp([far, -far, far / 10, 0.5, 0.3, -1.0]), 20, [5, 30, 60, 79]
    squared = np.zeros((draws, len(picked)))
    for seed in range(draws):
        truth, odometry, noise, loops, _ = problem(seed)
        solution = pose_graph.solve(frame @ odometry, noise, loops, PoseGraphConfig())
        off = solution.T_map_cam @ se3.inverse(frame @ truth)
        errors = np.concatenate(
            [solution.T_map_cam[:, :3, 3] - (frame @ truth)[:, :3, 3], se3.log(off)[:, 3:]], axis=1
        )
        squared[seed] = [
            errors[k] @ np.linalg.solve(solution.covariances[k], errors[k]) for k in picked
        ]
    low, high = chi2.ppf((0.001, 0.999), 6 * draws)
    assert (low < squared.sum(axis=0)).all() and (squared.sum(axis=0) < high).all(), (
        squared.mean(axis=0) / 6
    )


@pytest.mark.parametrize("anchor", [0, 4, 11])
def test_the_anchor_stays_and_its_covariance_is_none(anchor):
    odometry = round_trip(30)[:12]
    loop = Edge(
        11,
        2,
        se3.inverse(odometry[11]) @ odometry[2] @ se3.exp([0.1, 0.05, 0, 0, 0.02, 0]),
        np.diag(1 / LOOP**2),
    )
    solution = pose_graph.solve(
        odometry, np.tile(np.diag(STEP**2), (12, 1, 1)), [loop], PoseGraphConfig(), anchor=anchor
    )
    np.testing.assert_allclose(solution.T_map_cam[anchor], odometry[anchor], atol=1e-3)
    sizes = np.trace(solution.covariances, axis1=1, axis2=2)
    assert (
        sizes.argmin() == anchor and sizes[anchor] < 1e-6 and np.delete(sizes, anchor).min() > 1e-4
    )
