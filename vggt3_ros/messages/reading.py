"""Conversion of messages to the library's values. Every function raises ValueError that names the
invalid field.
"""

import logging
from functools import lru_cache

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import MAX_PIXELS, Camera
from vggt3_ros.geometry.se3 import Floats
from vggt3_ros.geometry.stereo import StereoPair, stereo_pair
from vggt3_ros.messages import images
from vggt3_ros.messages.encodings import upper_8_bits
from vggt3_ros.messages.fields import CameraInfo, Header, KeyframeMessage, Pose, Time, To8Bits
from vggt3_ros.messages.registration import check_registered
from vggt3_ros.store.keyframe import Keyframe, check_covariance
from vggt3_ros.store.stereo_keyframe import StereoKeyframe

NANOSECONDS = 1_000_000_000
# metres; beyond any coordinates on Earth (6.4e6), and small enough for products to stay finite
MAX_COORDINATE = 1e8
MAX_FRAME_NAME = 256  # characters

_log = logging.getLogger(__name__)


def to_nanoseconds(time: Time) -> int:
    """Convert a Time to nanoseconds."""
    return time.sec * NANOSECONDS + time.nanosec


def to_stamp(header: Header, name: str = "header") -> int:
    """Convert a header's stamp to nanoseconds; it must be valid and not zero."""
    stamp = header.stamp
    if not 0 <= stamp.nanosec < NANOSECONDS or stamp.sec < 0:
        raise ValueError(
            f"{name}.stamp must have sec >= 0 and nanosec below 1e9, got {stamp.sec} and {stamp.nanosec}"
        )
    if not (stamp.sec or stamp.nanosec):
        raise ValueError(f"{name}.stamp is zero: set it to the time of exposure")
    return to_nanoseconds(stamp)


def to_transform(pose: Pose, name: str = "pose") -> Floats:
    """Convert a geometry_msgs/Pose to a transform (4, 4)."""
    position = (pose.position.x, pose.position.y, pose.position.z)
    orientation = (pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w)
    if not np.all(np.isfinite(position)):
        raise ValueError(f"{name}.position holds NaN or infinity")
    if np.abs(position).max() > MAX_COORDINATE:
        raise ValueError(
            f"{name}.position must be metres within {MAX_COORDINATE:g}, got {np.abs(position).max():g}"
        )
    if not np.all(np.isfinite(orientation)):
        raise ValueError(f"{name}.orientation holds NaN or infinity")
    if not any(orientation):
        raise ValueError(f"{name}.orientation is 0 0 0 0: the front end was lost")
    try:
        return se3.from_quaternion(position, orientation)
    except ValueError as error:
        raise ValueError(f"{name}.orientation: {error}") from error


def to_camera(info: CameraInfo, name: str = "camera_info") -> Camera:
    """Convert a CameraInfo to a Camera. For a binned or cropped image (binning, roi), the
    intrinsics are those of the image as sent.

    A distortion model that is normalised to another (see geometry.camera.canonical_distortion) is
    logged once.
    """
    k = np.asarray(info.k, float)
    if not np.all(np.isfinite(k)) or k[0] <= 0 or k[4] <= 0:
        raise ValueError(
            f"{name}.k must hold positive focal lengths in pixels, got fx {k[0]}, fy {k[4]}: is the camera calibrated?"
        )
    model, distortion = info.distortion_model, tuple(info.d)
    skew = k[1] if abs(k[1]) > 1e-6 * k[0] else 0.0
    try:
        camera = Camera(info.width, info.height, k[0], k[4], k[2], k[5], model, distortion, skew)
        if (camera.distortion_model, len(camera.distortion)) != (
            info.distortion_model,
            len(info.d),
        ):
            _log_once(
                name,
                info.distortion_model,
                len(info.d),
                camera.distortion_model,
                len(camera.distortion),
            )
        roi, bx, by = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
        if roi.width and roi.height and (roi.width, roi.height) != (info.width, info.height):
            cx, cy = k[2] - roi.x_offset, k[5] - roi.y_offset
            camera = Camera(roi.width, roi.height, k[0], k[4], cx, cy, model, distortion, skew)
        camera = (
            camera
            if (bx, by) == (1, 1)
            else camera.scaled(camera.width // bx, camera.height // by)
        )
        if camera.width * camera.height > MAX_PIXELS:
            raise ValueError(
                f"images must have at most {MAX_PIXELS} pixels, got {camera.width}x{camera.height}"
            )
        return camera
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@lru_cache(maxsize=64)
def _log_once(name: str, model: str, count: int, read_model: str, read_count: int) -> None:
    _log.warning(
        "%s.distortion_model '%s' with %d coefficients is read as '%s' with %d",
        name,
        model,
        count,
        read_model,
        read_count,
    )


def to_image(
    message: object, camera: Camera, name: str = "", to_8_bits: To8Bits | None = None
) -> tuple[np.ndarray, bytes | None]:
    """Read the image of a message with the fields image and compressed_image, whose names are
    prefixed with `name`. Return (RGB (height, width, 3) uint8, encoded bytes or None).

    The image must have the camera's size. to_8_bits: conversion of 16-bit images (see
    levels.Levels); None: their upper 8 bits are kept.
    """
    raw, compressed = getattr(message, f"{name}image"), getattr(message, f"{name}compressed_image")
    if len(compressed.data):
        if len(raw.data):
            raise ValueError(f"{name}image and {name}compressed_image are both set; send one")
        return images.decompress(
            compressed, camera.width, camera.height, f"{name}compressed_image", to_8_bits
        )
    if not len(raw.data):
        raise ValueError(f"{name}image and {name}compressed_image are both empty")
    size = raw.width, raw.height
    if size != (camera.width, camera.height):
        raise ValueError(
            f"{name}image is {size[0]}x{size[1]}, but {name}camera_info says {camera.width}x{camera.height}"
        )
    return images.to_rgb(raw, f"{name}image", to_8_bits or upper_8_bits), None


def to_stereo_pair(
    left_info: CameraInfo, right_info: CameraInfo, name: str = "right_camera_info"
) -> StereoPair:
    """Convert the CameraInfos of two cameras side by side to a StereoPair of their unrectified
    images, described by k and d.

    r rotates each camera into the rectified pair, in which the right camera is displaced by p[3] /
    p[0] (sensor_msgs/CameraInfo). An r of zeros is no rotation.
    """
    left, right = to_camera(left_info), to_camera(right_info, name)
    p = np.asarray(right_info.p, float)
    if not np.all(np.isfinite(p)) or p[0] <= 0 or p[3] >= 0:
        raise ValueError(
            f"{name}.p[3] must be -fx * baseline of a camera to the right of the first, got p[3] {p[3]:.6g} with p[0] "
            f"{p[0]:.6g}: is the pair calibrated?"
        )
    R_left, R_right = _rectifying(left_info, "camera_info"), _rectifying(right_info, name)
    T_right_left = se3.from_rotation_translation(
        R_right.T @ R_left, R_right.T @ np.array([p[3] / p[0], 0, 0])
    )
    try:
        return stereo_pair(left, right, tuple(T_right_left.ravel()))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _rectifying(info: CameraInfo, name: str) -> Floats:
    """Return the rectifying rotation r (3, 3)."""
    rotation = np.reshape(np.asarray(info.r, float), (3, 3))
    if not rotation.any():
        return np.eye(3)
    if (
        not np.all(np.isfinite(rotation))
        or np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3
        or np.linalg.det(rotation) < 0
    ):
        raise ValueError(f"{name}.r is not a rotation matrix")
    return se3.orthonormalize(se3.from_rotation_translation(rotation, np.zeros(3)))[:3, :3]


def rectified(info: CameraInfo) -> CameraInfo:
    """Change a CameraInfo in place to that of the rectified images: k from the left three columns
    of p, no distortion. Return it.
    """
    info.k, info.r, info.d, info.distortion_model = (
        np.reshape(info.p, (3, 4))[:, :3].ravel().astype(float),
        np.eye(3).ravel(),
        [],
        "plumb_bob",
    )
    return info


def to_view(
    message: object, name: str = "", to_8_bits: To8Bits | None = None
) -> tuple[Camera, np.ndarray, bytes | None]:
    """Read camera and image of a message with the fields camera_info, image and compressed_image,
    whose names are prefixed with `name`. Return (Camera, RGB (height, width, 3) uint8, encoded
    bytes or None). to_8_bits: see :func:`to_image`.
    """
    camera = to_camera(getattr(message, f"{name}camera_info"), f"{name}camera_info")
    return camera, *to_image(message, camera, name, to_8_bits)


def to_keyframe(
    message: KeyframeMessage, to_8_bits: To8Bits | None = None
) -> tuple[Keyframe | StereoKeyframe, bytes | None]:
    """Convert a vggt3_ros/Keyframe. Return (Keyframe or StereoKeyframe, encoded bytes of the image
    or None). Stereo depth is not computed here: see with_stereo_depth. to_8_bits: see
    :func:`to_image`.
    """
    stamp_ns = to_stamp(message.header)
    if message.id >= 2**63:
        raise ValueError(f"id must be below 2^63, got {message.id}")
    camera, image, encoded = to_view(message, to_8_bits=to_8_bits)
    pose = to_transform(message.t_odom_camera, "t_odom_camera")
    sent = np.asarray(message.odometry_covariance, float).reshape(6, 6)
    covariance = check_covariance(sent) if sent.any() else None
    keyframe = Keyframe(
        message.id, stamp_ns, image, camera, pose, _depth(message, camera), covariance
    )
    if keyframe.depth is not None or not _has_right_image(message):
        return keyframe, encoded
    pair = to_stereo_pair(message.camera_info, message.right_camera_info)
    return StereoKeyframe(keyframe, to_view(message, "right_", to_8_bits)[1], pair), encoded


def _depth(message: KeyframeMessage, camera: Camera) -> np.ndarray | None:
    """Return the measured depth, None if the message has none."""
    if not (len(message.depth.data) or message.depth.width or message.depth.height):
        return None
    check_registered(message)
    size = message.depth.width, message.depth.height
    if size != (camera.width, camera.height):
        raise ValueError(
            f"depth is {size[0]}x{size[1]}, but its image is {camera.width}x{camera.height}; register it to the image"
        )
    return images.to_depth(message.depth)


def _has_right_image(message: KeyframeMessage) -> bool:
    """Tell whether there is an image of a right camera; bags of older versions lack the field."""
    return hasattr(message, "right_image") and bool(
        len(message.right_image.data) or len(message.right_compressed_image.data)
    )
