"""Steps of the odometry are confirmed, doubted or left open by what the images between their
keyframes say.
"""

import numpy as np
import pytest

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_steps import judge, odometry_noise, repaired, silent, windows
from vggt3_ros.refinement.pose_graph import Edge
from vggt3_ros.store.stored_poses import StoredPoses

SIGMA = np.array([0.01, 0.01, 0.01, 0.008, 0.008, 0.008])  # of a match
STEP = se3.exp([0.12, 0, 0.05, 0, 0.07, 0])


def path(count=12, steps=None):
    poses = [np.eye(4)]
    for k in range(1, count):
        poses.append(poses[-1] @ (steps or {}).get(k, STEP))
    return np.array(poses)


def matches(truth, rng, skip=(), forward=False):
    """Edges between neighbours that measure the true motion, in either direction."""
    edges = []
    for k in range(1, len(truth)):
        if k not in skip:
            i, j = (k - 1, k) if forward else (k, k - 1)
            edges.append(
                Edge(
                    i,
                    j,
                    se3.inverse(truth[i]) @ truth[j] @ se3.exp(SIGMA * rng.standard_normal(6)),
                    np.diag(SIGMA**-2),
                )
            )
    return edges


def noise_of(T, covariances=None):
    poses = StoredPoses(np.arange(len(T)), np.arange(len(T)), T, covariances or [None] * len(T))
    return odometry_noise(poses, PoseGraphConfig())


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_right_steps_are_confirmed_and_none_is_doubted(seed, forward):
    truth = path()
    steps = judge(
        truth, noise_of(truth), matches(truth, np.random.default_rng(seed), forward=forward)
    )
    assert (
        steps.confirmed[1:].all()
        and not steps.doubted.any()
        and not steps.open[1:].any()
        and not steps.dark.any()
    )


@pytest.mark.parametrize(
    "fault",
    [np.eye(4), STEP @ se3.exp([0.3, 0.4, 0, 0, 0, 0]), STEP @ se3.exp([0, 0, 0, 0.35, 0, 0])],
)
def test_a_step_that_its_own_images_contradict_is_doubted_and_measured(fault):
    truth, odometry = path(), path(steps={5: fault})
    steps = judge(odometry, noise_of(odometry), matches(truth, np.random.default_rng(0)))
    assert (
        np.flatnonzero(steps.doubted).tolist() == [5]
        and not steps.confirmed[5]
        and steps.confirmed[6]
    )
    assert np.linalg.norm((se3.inverse(STEP) @ steps.motions[5])[:3, 3]) < 0.05
    wide = steps.widened(np.zeros(12, bool))
    assert np.trace(wide[5]) > 10 * np.trace(steps.noise[5]) and np.trace(wide[6]) == np.trace(
        steps.noise[6]
    )
    mended = repaired(odometry, odometry, {5: steps.motions[5]}, np.zeros(12, int))
    assert np.linalg.norm((se3.inverse(truth[-1]) @ mended[-1])[:3, 3]) < 0.1
    np.testing.assert_array_equal(mended[:5], odometry[:5])


def test_a_silent_step_without_a_match_is_doubted_one_of_a_camera_that_stands_is_not():
    truth = path(steps={5: np.eye(4)})
    assert np.flatnonzero(silent(truth)).tolist() == [5]
    stands = judge(truth, noise_of(truth), matches(truth, np.random.default_rng(1)))
    assert not stands.doubted.any()
    unseen = judge(truth, noise_of(truth), matches(truth, np.random.default_rng(1), skip=(5, 7)))
    # 7 moves as ever: what it says may be right
    assert np.flatnonzero(unseen.doubted).tolist() == [5]
    assert np.flatnonzero(unseen.open).tolist() == np.flatnonzero(unseen.dark).tolist() == [5, 7]


def test_a_match_that_has_the_camera_move_as_it_never_does_proves_nothing():
    truth = path()
    edges = matches(truth, np.random.default_rng(2), skip=(5,))
    edges.append(Edge(5, 4, se3.exp([1.8, -0.9, 0.4, 1.0, 0, 0]), np.diag(SIGMA**-2)))
    steps = judge(truth, noise_of(truth), edges)
    assert not steps.doubted.any() and np.flatnonzero(steps.open).tolist() == [5]


def test_a_coarse_match_confirms_nothing():
    truth = path()
    edges = [
        Edge(k, k - 1, se3.inverse(STEP), np.diag(np.repeat([0.2, 0.2], 3) ** -2.0))
        for k in range(1, 12)
    ]
    steps = judge(truth, noise_of(truth), edges)
    assert not steps.confirmed.any() and not steps.doubted.any() and steps.open[1:].all()


def test_no_front_end_knows_better_than_it_can():
    T = path(4)
    claimed = np.diag([1e-12, 1e-2, 1e-12, 1e-12, 1e-12, 1e-4])
    noise = noise_of(T, [None, claimed, np.eye(6) * 1e-4, None])
    assert (np.sqrt(np.diag(noise[1]))[[0, 2]] >= 1e-3).all() and (
        np.sqrt(np.diag(noise[1]))[3:5] >= 5e-4
    ).all()
    assert noise[1][1, 1] == 1e-2 and noise[1][5, 5] == 1e-4
    np.testing.assert_array_equal(noise[2], np.eye(6) * 1e-4)


def test_where_runs_are_joined_there_is_no_step():
    T = path(6)
    steps = judge(T, noise_of(T, [None, None, None, np.eye(6) * 1e4, None, None]), [])
    assert (
        np.flatnonzero(steps.joined).tolist() == [0, 3]
        and not steps.open[3]
        and not steps.doubted.any()
    )
    mask = np.zeros(6, bool)
    mask[[2, 4]] = True
    assert windows(mask, 8, steps.joined) == [slice(0, 3), slice(3, 6)]
    mask[:] = False
    mask[[1, 2]] = True
    assert windows(mask, 1, np.zeros(6, bool)) == [slice(0, 3)]
