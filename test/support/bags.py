"""rosbag2 recordings of a Sequence, written with rosbags as a robot's recorder would."""

import cv2
import numpy as np
from folders import ROOT
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vggt3_ros.geometry import se3

STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


def typestore():
    store = get_typestore(Stores.ROS2_KILTED)
    store.register(
        get_types_from_msg((ROOT / "msg/Keyframe.msg").read_text(), "vggt3_ros/msg/Keyframe")
    )
    return store


class Bag:
    """with Bag(path) as bag: bag.write(topic, type name, message, stamp_ns); bag.make(type name,
    **fields) makes messages.
    """

    def __init__(self, path, storage="mcap", compression=None):
        self.types, self._writer, self._connections = (
            typestore(),
            Writer(path, version=9, storage_plugin=STORAGE[storage]),
            {},
        )
        if compression:
            self._writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)

    def __enter__(self):
        self._writer.open()
        return self

    def __exit__(self, *_):
        self._writer.close()

    def make(self, kind, **fields):
        return self.types.types[kind](**fields)

    def write(self, topic, kind, message, stamp_ns):
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self.types
            )
        self._writer.write(
            self._connections[topic], int(stamp_ns), self.types.serialize_cdr(message, kind)
        )

    def header(self, stamp_ns, frame):
        stamp = self.make(
            "builtin_interfaces/msg/Time",
            sec=int(stamp_ns) // 10**9,
            nanosec=int(stamp_ns) % 10**9,
        )
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def image(self, pixels, encoding, header):
        return self.make(
            "sensor_msgs/msg/Image",
            header=header,
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=np.ascontiguousarray(pixels).view(np.uint8).ravel(),
        )

    def compressed(self, pixels, kind, format, header, before=b""):
        data = (
            before
            + cv2.imencode(kind, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == ".jpg" else [])[
                1
            ].tobytes()
        )
        return self.make(
            "sensor_msgs/msg/CompressedImage",
            header=header,
            format=format,
            data=np.frombuffer(data, np.uint8),
        )

    def camera_info(self, camera, header):
        k = camera.matrix
        roi = self.make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        )
        return self.make(
            "sensor_msgs/msg/CameraInfo",
            header=header,
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=k.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([k, np.zeros((3, 1))]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def pose(self, T):
        t, q = se3.to_quaternion(T)
        return self.make(
            "geometry_msgs/msg/Pose",
            position=self.make("geometry_msgs/msg/Point", x=t[0], y=t[1], z=t[2]),
            orientation=self.make("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]),
        )

    def odometry(self, T, header, child):
        zero = self.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
        twist = self.make(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=self.make("geometry_msgs/msg/Twist", linear=zero, angular=zero),
            covariance=np.zeros(36),
        )
        pose = self.make(
            "geometry_msgs/msg/PoseWithCovariance", pose=self.pose(T), covariance=np.zeros(36)
        )
        return self.make(
            "nav_msgs/msg/Odometry", header=header, child_frame_id=child, pose=pose, twist=twist
        )

    def transform(self, parent, child, T, stamp_ns):
        t, q = se3.to_quaternion(T)
        transform = self.make(
            "geometry_msgs/msg/Transform",
            translation=self.make("geometry_msgs/msg/Vector3", x=t[0], y=t[1], z=t[2]),
            rotation=self.make("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]),
        )
        return self.make(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            transform=transform,
        )
