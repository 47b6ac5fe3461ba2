"""Convert library values to messages: poses, cameras, keyframes. The inverse is
messages/reading.py.
"""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Transform, Vector3
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import NANOSECONDS, to_transform
from vggt3_ros.msg import Keyframe as KeyframeMessage
from vggt3_ros.ros.image_messages import from_depth, from_encoded, from_rgb


def from_nanoseconds(nanoseconds):
    """Convert nanoseconds to builtin_interfaces/Time."""
    return Time(sec=int(nanoseconds) // NANOSECONDS, nanosec=int(nanoseconds) % NANOSECONDS)


def from_transform(transform):
    """Convert a transform (4, 4) to geometry_msgs/Pose."""
    position, orientation = se3.to_quaternion(transform)
    return Pose(
        position=Point(**_xyz(position)),
        orientation=Quaternion(**_xyz(orientation), w=float(orientation[3])),
    )


def to_transform_message(transform):
    """Convert a transform (4, 4) to geometry_msgs/Transform."""
    translation, rotation = se3.to_quaternion(transform)
    return Transform(
        translation=Vector3(**_xyz(translation)),
        rotation=Quaternion(**_xyz(rotation), w=float(rotation[3])),
    )


def to_matrix(transform, name="transform"):
    """Convert geometry_msgs/Transform to (4, 4). Raises ValueError if it is not a rigid transform."""
    at = transform.translation
    return to_transform(
        Pose(position=Point(x=at.x, y=at.y, z=at.z), orientation=transform.rotation), name
    )


def _xyz(vector):
    return {"x": float(vector[0]), "y": float(vector[1]), "z": float(vector[2])}


def with_covariance(transform, covariance):
    """Convert a transform (4, 4) and its covariance (6, 6), x y z rotX rotY rotZ, to
    geometry_msgs/PoseWithCovariance.
    """
    return PoseWithCovariance(
        pose=from_transform(transform), covariance=np.ravel(covariance).astype(float)
    )


def from_camera(camera, header=None):
    """Convert a Camera to CameraInfo."""
    k = camera.matrix
    info = CameraInfo(
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=list(camera.distortion) or [0.0] * 5,
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )
    if header is not None:
        info.header = header
    return info


def from_keyframe(keyframe, odom_frame="odom", camera_frame="camera", encoded=None):
    """Convert a Keyframe to vggt3_ros/Keyframe, raw or with `encoded` JPEG or PNG bytes.

    Depth that is exact in millimetres is sent as 16UC1, other depth as 32FC1.
    """
    stamp = from_nanoseconds(keyframe.stamp_ns)
    header = Header(stamp=stamp, frame_id=camera_frame)
    message = KeyframeMessage(
        header=Header(stamp=stamp, frame_id=odom_frame),
        camera_frame_id=camera_frame,
        id=keyframe.id,
        t_odom_camera=from_transform(keyframe.T_odom_cam),
        camera_info=from_camera(keyframe.camera, header),
    )
    if keyframe.odometry_covariance is not None:
        message.odometry_covariance = np.ravel(keyframe.odometry_covariance)
    if encoded is None:
        message.image = from_rgb(keyframe.image, header)
    else:
        message.compressed_image = from_encoded(encoded, header)
    if keyframe.depth is not None:
        message.depth = from_depth(_millimetres(keyframe.depth), header)
    return message


def _millimetres(depth):
    """Return depth as uint16 millimetres if that loses nothing, else unchanged."""
    counts = np.rint(depth * np.float32(1000))
    if counts.max(initial=0) <= 65535:
        counts = counts.astype(np.uint16)
        if np.array_equal(counts.astype(np.float32) / np.float32(1000), depth):
            return counts
    return depth
