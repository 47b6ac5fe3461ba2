"""Messages -> the values the library works with. ValueError names the field that is wrong.

Nothing here imports ROS: any object with a message's fields will do, so that bags are read without a ROS installation.
"""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.mapping.keyframe import Keyframe, check_covariance
from vggt3_ros.ros import images

NANOSECONDS = 1_000_000_000


def to_nanoseconds(time):
    return time.sec * NANOSECONDS + time.nanosec


def to_transform(pose, name="pose"):
    """geometry_msgs/Pose -> (4, 4)."""
    position = (pose.position.x, pose.position.y, pose.position.z)
    orientation = (pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w)
    if not np.all(np.isfinite(position)):
        raise ValueError(f"{name}.position holds NaN or infinity")
    if not np.all(np.isfinite(orientation)):
        raise ValueError(f"{name}.orientation holds NaN or infinity")
    try:
        return se3.from_quaternion(position, orientation)
    except ValueError as error:
        raise ValueError(f"{name}.orientation: {error}") from error


def to_camera(info, name="camera_info"):
    """CameraInfo -> Camera. A binned or cropped image (binning, roi) gets the intrinsics of what was sent."""
    k = np.asarray(info.k, float)
    if not np.all(np.isfinite(k)) or k[0] <= 0 or k[4] <= 0:
        raise ValueError(f"{name}.k must hold positive focal lengths in pixels, got fx {k[0]}, fy {k[4]}: is the camera calibrated?")
    if abs(k[1]) > 1e-6 * k[0]:
        raise ValueError(f"{name}.k has skew {k[1]}, which is not supported")
    try:
        camera = Camera(info.width, info.height, k[0], k[4], k[2], k[5], info.distortion_model, tuple(info.d))
        roi, bx, by = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
        if roi.width and roi.height and (roi.width, roi.height) != (info.width, info.height):
            camera = Camera(roi.width, roi.height, k[0], k[4], k[2] - roi.x_offset, k[5] - roi.y_offset, info.distortion_model,
                            tuple(info.d))
        return camera if (bx, by) == (1, 1) else camera.scaled(camera.width // bx, camera.height // by)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def to_image(message, camera, name=""):
    """The image of a message with fields image and compressed_image -> (RGB array, encoded bytes or None). Size checked."""
    if len(message.compressed_image.data):
        if len(message.image.data):
            raise ValueError(f"{name}image and {name}compressed_image are both set; send one")
        return images.decompress(message.compressed_image, camera.width, camera.height, f"{name}compressed_image")
    if not len(message.image.data):
        raise ValueError(f"{name}image and {name}compressed_image are both empty")
    size = message.image.width, message.image.height
    if size != (camera.width, camera.height):
        raise ValueError(f"{name}image is {size[0]}x{size[1]}, {name}camera_info says {camera.width}x{camera.height}")
    return images.to_rgb(message.image, f"{name}image"), None


def to_keyframe(message):
    """vggt3_ros/Keyframe -> (Keyframe, encoded image bytes or None)."""
    stamp_ns = to_nanoseconds(message.header.stamp)
    if stamp_ns <= 0:
        raise ValueError("header.stamp is zero: the time of exposure is needed")
    if message.id >= 2**63:
        raise ValueError(f"id must be below 2^63, got {message.id}")
    camera = to_camera(message.camera_info)
    pose = to_transform(message.t_odom_camera, "t_odom_camera")
    covariance = np.asarray(message.odometry_covariance, float).reshape(6, 6)
    covariance = check_covariance(covariance) if covariance.any() else None
    image, encoded = to_image(message, camera)
    depth = None
    if len(message.depth.data) or message.depth.width or message.depth.height:
        size = message.depth.width, message.depth.height
        if size != (camera.width, camera.height):
            raise ValueError(f"depth is {size[0]}x{size[1]}, its image {camera.width}x{camera.height}; register it to the image")
        depth = images.to_depth(message.depth)
    return Keyframe(message.id, stamp_ns, image, camera, pose, depth, covariance), encoded
