"""Transforms between frames at the time of an image: fixed, moving, or unknown."""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.frame_tree import FrameTree, NotYet, Unknown

MS = 1_000_000
TORSO, MOUNT = se3.exp([0.1, 0.0, 0.9, 0, 0, 0.2]), se3.exp([0.05, 0.02, 0.1, -0.5, 0.1, 0.3])


def neck(seconds):
    """T_torso_head of a head that pans at 0.8 rad/s and nods."""
    return (
        se3.exp([0.0, 0.0, 0.3, 0, 0, 0])
        @ se3.exp([0, 0, 0, 0, 0, 0.8 * seconds])
        @ se3.exp([0, 0, 0, 0, 0.1 * np.sin(seconds), 0])
    )


def robot(period_ms=20, until_ms=2000, **options):
    tree = FrameTree(250 * MS, **options)
    tree.fix("base", "torso", TORSO)
    tree.fix("/head", "camera", MOUNT)
    for ms in range(0, until_ms + 1, period_ms):
        tree.move("odom", "base", ms * MS, se3.exp([ms / 1000, 0, 0, 0, 0, 0]))
        tree.move("torso", "/head", ms * MS, neck(ms / 1000))
    return tree


def apart(a, b):
    between = se3.inverse(a) @ b
    return np.linalg.norm(between[:3, 3]), se3.rotation_angle(between)


@pytest.mark.parametrize("ms", [0, 3, 10, 11.37, 777.7, 1999, 2000])
def test_the_camera_is_where_the_head_was_at_that_moment(ms):
    at = robot().at("base", "camera", int(ms * MS))
    metres, radians = apart(TORSO @ neck(ms / 1000) @ MOUNT, at)
    assert metres < 1e-5 and radians < 1e-5
    back = robot().at("/camera", "base", int(ms * MS))
    np.testing.assert_allclose(at @ back, np.eye(4), atol=1e-12)


def test_ignoring_the_motion_of_the_head_would_be_far_off():
    """What this guards against: over a second the camera turns by half a radian."""
    tree = robot()
    assert apart(tree.at("base", "camera", 0), tree.at("base", "camera", 1000 * MS))[1] > 0.5


def test_transforms_above_the_common_ancestor_are_not_read():
    """Odometry may be late, or stop: it does not move the camera on its base."""
    tree = robot(until_ms=1000)
    for ms in range(1020, 2001, 20):
        tree.move("torso", "head", ms * MS, neck(ms / 1000))
    with pytest.raises(NotYet, match="odom -> base is 0.500"):
        tree.at("odom", "camera", 1500 * MS)
    assert apart(tree.at("base", "camera", 1500 * MS), TORSO @ neck(1.5) @ MOUNT)[0] < 1e-9


def test_nothing_is_interpolated_before_the_first_after_the_last_or_across_a_gap():
    tree = FrameTree(250 * MS)
    for ms in (1000, 1100, 1600):
        tree.move("base", "camera", ms * MS, neck(ms / 1000))
    with pytest.raises(Unknown, match="older than the first transform base -> camera"):
        tree.at("base", "camera", 999 * MS)
    with pytest.raises(Unknown, match="base -> camera around it are 0.500 s apart"):
        tree.at("base", "camera", 1300 * MS)
    with pytest.raises(NotYet, match="base -> camera is 0.400 s older than the image"):
        tree.at("base", "camera", 2000 * MS)
    np.testing.assert_allclose(tree.at("base", "camera", 1100 * MS), neck(1.1), atol=1e-12)


def test_a_frame_that_stood_still_is_interpolated_across_gaps():
    tree = FrameTree(250 * MS)
    for seconds in (0, 5, 10):
        tree.move("base", "camera", seconds * 1000 * MS, neck(0.3))
    assert apart(tree.at("base", "camera", 7321 * MS), neck(0.3))[0] < 1e-9


def test_unconnected_frames_loops_and_a_frame_to_itself():
    tree = robot()
    assert tree.at("base", "elsewhere", 0) is None and not tree.connected("base", "elsewhere")
    np.testing.assert_array_equal(tree.at("camera", "camera", 0), np.eye(4))
    tree.fix("a", "b", np.eye(4))
    tree.fix("b", "a", np.eye(4))
    assert (
        not tree.connected("a", "base")
        and tree.connected("a", "b")
        and tree.connected("base", "head")
    )


def test_a_fixed_frame_that_moves_becomes_a_moving_one_and_is_reported_once():
    tree = robot()
    tree.fix("torso", "pan", np.eye(4))
    assert tree.move("torso", "pan", 0, neck(0.0)) and not tree.move(
        "torso", "pan", 10 * MS, neck(0.01)
    )
    tree.fix("torso", "pan", np.eye(4))
    assert apart(tree.at("torso", "pan", 10 * MS), neck(0.01))[1] < 1e-9


def test_order_repetition_another_parent_and_a_clock_that_begins_again():
    tree = FrameTree(250 * MS)
    for ms in (0, 40, 20, 20, 60):
        tree.move("base", "camera", ms * MS, neck(ms / 1000))
    assert apart(tree.at("base", "camera", 25 * MS), neck(0.025))[1] < 1e-5
    tree.move("base", "camera", 5000 * MS, neck(5.0))
    tree.move("base", "camera", 100 * MS, neck(0.1))
    with pytest.raises(NotYet):
        tree.at("base", "camera", 5000 * MS)
    tree.move("hand", "camera", 120 * MS, np.eye(4))
    assert tree.at("base", "camera", 120 * MS) is None and np.array_equal(
        tree.at("hand", "camera", 120 * MS), np.eye(4)
    )


def test_history_is_bounded_and_only_needed_transforms_are_converted():
    asked = []

    def matrix(value):
        asked.append(value)
        return neck(value)

    tree = FrameTree(250 * MS, history=100, matrix=matrix)
    for ms in range(0, 10_000, 10):
        tree.move("base", "camera", ms * MS, ms / 1000)
    with pytest.raises(Unknown):
        tree.at("base", "camera", 5000 * MS)
    assert (
        not asked
        and apart(tree.at("base", "camera", 9555 * MS), neck(9.555))[1] < 1e-5
        and asked == [9.55, 9.56]
    )
    with pytest.raises(ValueError, match="moving frames"):
        for number in range(1000):
            tree.move("base", f"{number}", 0, 0.0)
    with pytest.raises(ValueError, match="too many frames"):
        for number in range(10_001):
            tree.fix("base", f"{number}", np.eye(4))


def test_an_invalid_transform_is_named():
    def matrix(value):
        raise ValueError("its quaternion has length 0")

    tree = FrameTree(250 * MS, matrix=matrix)
    tree.move("base", "camera", 0, "anything")
    with pytest.raises(Unknown, match="base -> camera: its quaternion has length 0"):
        tree.at("base", "camera", 0)
