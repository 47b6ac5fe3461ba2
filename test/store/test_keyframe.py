"""Validation of keyframes: what is accepted, and the error for what is not."""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)


def keyframe(**changes):
    fields = {
        "id": 3,
        "stamp_ns": 10**18,
        "image": np.zeros((48, 64, 3), np.uint8),
        "camera": CAMERA,
        "T_odom_cam": se3.exp([1, 2, 3, 0.1, 0.2, 0.3]),
        "depth": np.full((48, 64), 1.5, np.float32),
        "odometry_covariance": np.diag([1e-4] * 6),
    }
    return Keyframe(**dict(fields, **changes))


def _pose(row, column, value):
    pose = np.eye(4)
    pose[row, column] = value
    return pose


def _covariance(row, column, value):
    covariance = np.eye(6) * 1e-4
    covariance[row, column] = covariance[column, row] = value
    return covariance


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("id", -1, "id"),
        ("id", 2**63, "id"),
        ("stamp_ns", -1, "stamp_ns"),
        ("stamp_ns", 2**63, "stamp_ns"),
        ("T_odom_cam", _pose(0, 3, np.nan), "NaN"),
        ("T_odom_cam", _pose(2, 1, np.nan), "NaN"),
        ("T_odom_cam", np.diag([1.1, 1.1, 1.1, 1]), "rotation"),
        ("T_odom_cam", np.eye(3), "4x4"),
        ("image", np.zeros((240, 320, 3), np.uint8), "to match its camera"),
        ("image", np.zeros((48, 64), np.uint8), "RGB"),
        ("image", np.zeros((48, 64, 3), np.float32), "uint8"),
        ("image", np.zeros((48, 64, 4), np.uint8), "RGB"),
        ("depth", np.full((48, 64), 1500, np.uint16), "metres.*divide 16-bit millimetres by 1000"),
        ("depth", np.full((48, 64), 1500.0), "metres.*divide 16-bit millimetres by 1000"),
        ("depth", np.full((48, 64), -1.0), "metres"),
        ("depth", np.ones((24, 32)), "register it to the image"),
        ("depth", np.ones((48, 64, 1)), "shape"),
        ("odometry_covariance", np.zeros((6, 6)), "positive definite"),
        ("odometry_covariance", _covariance(0, 1, 1e-3), "positive definite"),
        ("odometry_covariance", np.triu(np.ones((6, 6))), "symmetric"),
        ("odometry_covariance", _covariance(2, 2, np.nan), "finite"),
        ("odometry_covariance", np.eye(3), "6x6"),
    ],
)
def test_refuses_what_cannot_be_right_and_names_the_field(field, value, message):
    keyframe()  # the others are fine
    with pytest.raises(ValueError, match=f"(?s)(?=.*{field}).*{message}"):
        keyframe(**{field: value})


def test_unknown_depth_becomes_zero():
    depth = np.full((48, 64), 1.5)
    depth[0, :4] = np.nan, np.inf, -np.inf, 0
    taken = keyframe(depth=depth).depth
    assert taken.dtype == np.float32 and (taken[0, :4] == 0).all() and (taken[1:] == 1.5).all()


def test_depth_and_covariance_may_be_missing_and_a_dark_depth_image_is_fine():
    assert keyframe(depth=None, odometry_covariance=None).depth is None
    assert not keyframe(depth=np.zeros((48, 64), np.float32)).depth.any()
