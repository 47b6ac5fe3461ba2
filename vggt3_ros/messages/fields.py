"""The fields that are read of ROS messages, as types. Any object that has them will do: messages
of rclpy and of rosbags alike.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

Octets: TypeAlias = "bytes | bytearray | memoryview | array[int]"
To8Bits = Callable[[np.ndarray], np.ndarray]  # uint16 pixels -> uint8 pixels of the same shape


class Time(Protocol):
    """builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(Protocol):
    """std_msgs/Header."""

    stamp: Time
    frame_id: str


class Image(Protocol):
    """sensor_msgs/Image."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Octets


class CompressedImage(Protocol):
    """sensor_msgs/CompressedImage."""

    header: Header
    format: str
    data: Octets


class Region(Protocol):
    """sensor_msgs/RegionOfInterest."""

    x_offset: int
    y_offset: int
    height: int
    width: int


class CameraInfo(Protocol):
    """sensor_msgs/CameraInfo."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float] | np.ndarray
    k: Sequence[float] | np.ndarray
    r: Sequence[float] | np.ndarray
    p: Sequence[float] | np.ndarray
    binning_x: int
    binning_y: int
    roi: Region


class Point(Protocol):
    """geometry_msgs/Point."""

    x: float
    y: float
    z: float


class Quaternion(Protocol):
    """geometry_msgs/Quaternion."""

    x: float
    y: float
    z: float
    w: float


class Pose(Protocol):
    """geometry_msgs/Pose."""

    position: Point
    orientation: Quaternion


class KeyframeMessage(Protocol):
    """vggt3_ros/Keyframe; bags of older versions have no right camera."""

    header: Header
    id: int
    camera_frame_id: str
    camera_info: CameraInfo
    image: Image
    compressed_image: CompressedImage
    t_odom_camera: Pose
    depth: Image
    odometry_covariance: Sequence[float] | np.ndarray
    right_camera_info: CameraInfo
    right_image: Image
    right_compressed_image: CompressedImage
