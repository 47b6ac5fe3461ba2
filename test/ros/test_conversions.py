"""Values as messages are the same values when they are read again."""

from dataclasses import replace

import numpy as np
import pytest
from random_keyframes import CAMERA, assert_same, make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.reading import to_camera, to_keyframe, to_nanoseconds, to_transform

pytest.importorskip("rclpy", reason="messages are needed")

from std_msgs.msg import Header

from vggt3_ros.ros.conversions import (
    from_camera,
    from_keyframe,
    from_nanoseconds,
    from_transform,
    to_matrix,
    to_transform_message,
    with_covariance,
)


@pytest.mark.parametrize("stamp", [0, 1, 999_999_999, 10**9, 1_700_000_000_123_456_789])
def test_no_nanosecond_is_lost(stamp):
    message = from_nanoseconds(np.int64(stamp))
    assert to_nanoseconds(message) == stamp and message.nanosec < 10**9


def test_poses_and_transforms_are_the_same_motion():
    for seed in range(20):
        T = se3.exp(np.random.default_rng(seed).normal(0, 3, 6))
        np.testing.assert_allclose(to_transform(from_transform(T)), T, atol=1e-12)
        np.testing.assert_allclose(to_matrix(to_transform_message(T)), T, atol=1e-12)


def test_a_transform_that_is_none_is_refused_by_its_name():
    message = to_transform_message(np.eye(4))
    message.rotation.w = 0.0
    with pytest.raises(ValueError, match="mount"):
        to_matrix(message, "mount")


def test_a_covariance_is_row_major():
    covariance = np.arange(36.0).reshape(6, 6)
    message = with_covariance(np.eye(4), covariance)
    np.testing.assert_array_equal(np.reshape(message.covariance, (6, 6)), covariance)


@pytest.mark.parametrize(
    "camera",
    [
        CAMERA,
        Camera(640, 480, 500.0, 501.0, 319.5, 239.5),
        Camera(640, 480, 300.0, 300.0, 320.0, 240.0, "equidistant", (0.1, 0.01, -0.001, 0.0002)),
    ],
)
def test_a_camera_is_read_back_and_p_is_of_the_same_pinhole(camera):
    header = Header(frame_id="optical")
    info = from_camera(camera, header)
    assert info.header.frame_id == "optical"
    read = to_camera(info)
    assert (read.width, read.height) == (camera.width, camera.height)
    np.testing.assert_array_equal(read.matrix, camera.matrix)
    assert read.is_distorted == camera.is_distorted
    if camera.is_distorted:
        assert read.distortion_model == camera.distortion_model
        np.testing.assert_array_equal(read.distortion, camera.distortion)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], camera.matrix)


@pytest.mark.parametrize("depth", ["millimetres", "float", None])
def test_a_keyframe_is_read_back(depth):
    keyframe = make_keyframe(3, depth=depth)
    message = from_keyframe(keyframe, "robot/odom", "robot/camera")
    assert message.header.frame_id == "robot/odom"
    assert message.camera_frame_id == message.image.header.frame_id == "robot/camera"
    read, encoded = to_keyframe(message)
    assert_same(read, keyframe)
    assert not encoded


@pytest.mark.parametrize(
    "depth, encoding",
    [
        (np.float32([[0.001, 65.535], [0, 3]]), "16UC1"),
        (np.float32([[0.001, 65.536], [0, 3]]), "32FC1"),
        (np.float32([[0.0015, 1], [0, 3]]), "32FC1"),
    ],
)
def test_depth_goes_as_millimetres_only_where_that_is_exact(depth, encoding):
    camera = Camera(2, 2, 2.0, 2.0, 0.5, 0.5)
    keyframe = replace(
        make_keyframe(1, depth=None), image=np.zeros((2, 2, 3), np.uint8), camera=camera
    )
    message = from_keyframe(replace(keyframe, depth=depth))
    assert message.depth.encoding == encoding
    np.testing.assert_array_equal(to_keyframe(message)[0].depth, depth)
