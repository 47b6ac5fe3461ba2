"""Breaks of the odometry are found where the solved poses contradict it, with their size, and
survive a snapshot's report.
"""

import json

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_breaks import Break, breaks, reported, told
from vggt3_ros.refinement.odometry_steps import Steps
from vggt3_ros.store.stored_poses import StoredPoses

COUNT, STEP = 20, se3.exp([0.1, 0, 0.02, 0, 0.05, 0])
SIGMA = np.array([0.005] * 3 + [0.004] * 3)
NOTHING = np.zeros(COUNT, bool)


def path(errors=(), seed=None):
    """Poses (COUNT, 4, 4); errors: {index: motion by which its step is off}."""
    rng, poses = np.random.default_rng(seed), [np.eye(4)]
    for k in range(1, COUNT):
        noise = se3.exp(SIGMA * rng.standard_normal(6)) if seed is not None else np.eye(4)
        poses.append(poses[-1] @ STEP @ dict(errors).get(k, np.eye(4)) @ noise)
    return np.array(poses)


def steps(*doubted):
    mask = NOTHING.copy()
    mask[list(doubted)] = True
    noise = np.tile(np.diag(SIGMA**2), (COUNT, 1, 1))
    joined = NOTHING.copy()
    joined[0] = True
    return Steps(noise, 100 * noise, joined, ~mask, mask, ~mask, {})


def stored(T_odom_cam):
    ids = 100 + np.arange(COUNT)
    return StoredPoses(ids, ids, T_odom_cam, [None] * COUNT, np.zeros(COUNT, np.int64))


@pytest.mark.parametrize("seed", range(3))
def test_a_jump_is_a_break_of_its_size(seed):
    jump = se3.exp([0.6, 0, 0, 0, 0, np.radians(20)])
    odometry = path({7: jump}, seed)
    (found,) = breaks(stored(odometry), steps(7), NOTHING, path())
    assert (found.before, found.after) == (106, 107)
    assert found.metres == pytest.approx(0.6, abs=0.03)
    assert found.degrees == pytest.approx(20, abs=1.5)
    assert str(found).startswith("odometry broke between keyframes 106 and 107: off by 0.")


def test_a_doubt_that_the_solution_does_not_bear_out_is_no_break():
    odometry = path(seed=1)
    assert breaks(stored(odometry), steps(7, 12), NOTHING, path()) == []
    assert breaks(stored(path({7: se3.exp([1.0, 0, 0, 0, 0, 0])})), steps(), NOTHING, path()) == []


def test_doubted_steps_in_a_row_are_one_break_with_the_largest_error():
    there, back = se3.exp([0.5, 0, 0, 0, 0, 0]), se3.exp([-0.3, 0, 0, 0, 0, 0])
    odometry = path({7: there, 8: back, 14: there}, 2)
    also = NOTHING.copy()
    also[14] = True  # suspected besides
    first, second = breaks(stored(odometry), steps(7, 8), also, path())
    assert (first.before, first.after, second.before, second.after) == (106, 108, 113, 114)
    assert first.metres == pytest.approx(0.5, abs=0.05)


def test_a_front_end_that_is_worse_than_it_says_everywhere_has_not_broken():
    rng = np.random.default_rng(3)
    errors = {k: se3.exp(10 * SIGMA * rng.standard_normal(6)) for k in range(1, COUNT)}
    odometry = path(errors)
    assert breaks(stored(odometry), steps(9), NOTHING, path()) == []
    odometry = path(errors | {9: se3.exp([0.9, 0, 0, 0, 0, 0])})
    assert len(breaks(stored(odometry), steps(9), NOTHING, path())) == 1


def test_a_report_keeps_them_and_tells_them_by_the_front_end_s_ids():
    found = [Break(106, 107, 0.61, 19.5), Break(113, 114, 0.2, 3.0)]
    report = json.loads(json.dumps({"loops": 3} | reported(found)))
    assert told(report) == found
    assert told(report, {106: 6, 107: 7}) == [Break(6, 7, 0.61, 19.5), found[1]]
    assert told({"loops": 3}) == [] == told(reported([]))
