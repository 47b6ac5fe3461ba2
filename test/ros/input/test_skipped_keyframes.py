"""What the front end says of a motion is of the motion since its last keyframe; the store's is
since the last that it holds.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from random_keyframes import make_keyframe

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

import itertools

from vggt3_ros.geometry import se3
from vggt3_ros.ros.conversions import from_keyframe
from vggt3_ros.ros.input.intake import Intake
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.stored_poses import chained

QUIET = SimpleNamespace(warning=lambda *a, **k: None, error=lambda *a, **k: None)
KEYFRAMES = [make_keyframe(id) for id in range(6)]
STEPS = [None] + [
    se3.inverse(a.T_odom_cam) @ b.T_odom_cam for a, b in itertools.pairwise(KEYFRAMES)
]


@pytest.fixture
def intake(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        yield Intake(store, "odom", lambda: None, QUIET, "map"), store


def spoilt(keyframe, pose=False):
    message = from_keyframe(keyframe)
    message.image.step = 1
    if pose:
        message.t_odom_camera.orientation.w = float("nan")
    return message


def covariance(store, id):
    return store.get(id).odometry_covariance


def test_after_refused_keyframes_the_next_motion_is_known_as_well_as_all_of_them(intake):
    intake, store = intake
    assert intake.take(from_keyframe(KEYFRAMES[0]))
    assert not intake.take(spoilt(KEYFRAMES[1])) and not intake.take(spoilt(KEYFRAMES[2]))
    assert intake.take(from_keyframe(KEYFRAMES[3])) and intake.take(from_keyframe(KEYFRAMES[4]))
    one, two, three = (KEYFRAMES[k].odometry_covariance for k in (1, 2, 3))
    expected = chained(chained(one, STEPS[2], two), STEPS[3], three)
    np.testing.assert_allclose(covariance(store, 3), expected, rtol=1e-9)
    np.testing.assert_allclose(covariance(store, 4), KEYFRAMES[4].odometry_covariance)
    # The front end corrects its past: what it then says of the motion is still of its own last
    # keyframe, which is not here.
    assert intake.take(
        from_keyframe(
            replace(
                KEYFRAMES[3], T_odom_cam=KEYFRAMES[3].T_odom_cam @ se3.exp([0.01, 0, 0, 0, 0, 0])
            )
        )
    )
    np.testing.assert_allclose(covariance(store, 3), expected, rtol=1e-9)


def test_where_the_refused_pose_says_nothing_neither_does_the_motion(intake):
    intake, store = intake
    assert intake.take(from_keyframe(KEYFRAMES[0])) and not intake.take(
        spoilt(KEYFRAMES[1], pose=True)
    )
    assert intake.take(from_keyframe(KEYFRAMES[2])) and covariance(store, 2) is None
    assert intake.take(from_keyframe(KEYFRAMES[3])) and covariance(store, 3) is not None


def test_what_was_only_localized_counts_as_left_out(intake):
    intake, store = intake
    assert intake.take(from_keyframe(KEYFRAMES[0]))
    intake.divert(lambda keyframe: None)
    assert intake.take(from_keyframe(KEYFRAMES[1]))
    intake.divert(None)
    assert intake.take(from_keyframe(KEYFRAMES[2]))
    np.testing.assert_allclose(
        covariance(store, 2),
        chained(KEYFRAMES[1].odometry_covariance, STEPS[2], KEYFRAMES[2].odometry_covariance),
    )


def test_old_messages_and_those_of_another_odometry_leave_nothing_out(intake):
    intake, store = intake
    assert intake.take(from_keyframe(KEYFRAMES[2])) and not intake.take(spoilt(KEYFRAMES[1]))
    assert not intake.take(from_keyframe(KEYFRAMES[3], odom_frame="elsewhere"))
    assert intake.take(from_keyframe(KEYFRAMES[4]))
    np.testing.assert_allclose(covariance(store, 4), KEYFRAMES[4].odometry_covariance)
