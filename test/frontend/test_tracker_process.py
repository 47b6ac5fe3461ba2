"""An external tracker: its poses, losses, new maps and exit."""

import json
import sys

import numpy as np
import pytest
from folders import SUPPORT
from random_keyframes import CAMERA, make_keyframe

from vggt3_ros.frontend.tracker_process import TrackerProcess
from vggt3_ros.geometry import se3

FRAME = make_keyframe(0)
STEP = se3.exp(np.array([0.1, 0, 0, 0, 0, 0.05]))


def pose(steps):
    return {"T_world_cam": np.linalg.matrix_power(STEP, steps).ravel().tolist()}


@pytest.fixture
def tracked(tmp_path):
    """tracked(answers) -> what the tracker says of as many frames."""

    def track(answers, count=None):
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        with TrackerProcess(
            f"{sys.executable} {SUPPORT / 'stand_in_tracker.py'} {tmp_path / 'answers.json'}"
        ) as tracker:
            return [
                tracker.track(FRAME.image, FRAME.depth, CAMERA, i)
                for i in range(count or len(answers))
            ]

    return track


def test_poses_are_passed_on(tracked):
    for steps, result in enumerate(tracked([pose(0), pose(1), pose(2)])):
        np.testing.assert_allclose(
            result.T_odom_cam, np.linalg.matrix_power(STEP, steps), atol=1e-9
        )
        assert result.covariance is None and result.inliers


def test_a_lost_tracker_relocalizes_in_the_same_map(tracked):
    results = tracked([pose(0), pose(1), {"T_world_cam": None}, pose(3)])
    np.testing.assert_allclose(results[2].T_odom_cam, STEP, atol=1e-9)
    assert results[2].covariance[0, 0] > 0.1 and results[2].inliers == 0
    np.testing.assert_allclose(results[3].T_odom_cam, np.linalg.matrix_power(STEP, 3), atol=1e-9)
    assert results[3].covariance is None


def test_a_new_map_of_the_tracker_goes_on_from_the_last_pose(tracked):
    results = tracked([pose(0), pose(20), {"T_world_cam": None}, pose(0), pose(1)])
    np.testing.assert_allclose(results[3].T_odom_cam, results[1].T_odom_cam, atol=1e-9)
    assert results[3].covariance[0, 0] > 0.1  # where it really is nobody knows
    np.testing.assert_allclose(results[4].T_odom_cam, results[1].T_odom_cam @ STEP, atol=1e-9)
    assert results[4].covariance is None


@pytest.mark.parametrize(
    "answer", [{}, {"T_world_cam": [1, 2]}, ["x"], {"T_world_cam": [2.0] + [0.0] * 15}]
)
def test_nonsense_is_refused(tracked, answer):
    with pytest.raises(ValueError, match="sent an invalid answer"):
        tracked([answer])


def test_its_exit_is_reported_with_its_status(tracked):
    with pytest.raises(ValueError, match=r"ended \(exit status 3\)"):
        tracked([pose(0)], count=2)
    with pytest.raises(ValueError, match="cannot be started"):
        TrackerProcess("/nowhere/tracker --fast")
