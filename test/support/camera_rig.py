"""A robot with a camera, as drivers and a tracker publish it: image, camera_info, depth and poses
of its base.
"""

import time

import cv2
import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from random_keyframes import CAMERA
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_graph import until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry import se3
from vggt3_ros.ros import image_messages, qos
from vggt3_ros.ros.conversions import (
    from_camera,
    from_nanoseconds,
    from_transform,
    to_transform_message,
    with_covariance,
)

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
BASELINE, DISPARITY = 0.1, 4  # metres and pixels of the stereo rig
POSES = {
    "odometry": (Odometry, "odometry"),
    "pose": (PoseStamped, "frontend_pose"),
    "pose_with_covariance": (PoseWithCovarianceStamped, "frontend_pose"),
}
T_BASE_MOUNT = se3.exp([0.2, 0.0, 0.3, 0, 0, 0.1])
# optical axes
T_MOUNT_CAM = se3.from_rotation_translation(
    [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0.01, 0.02, 0.03]
)
T_BASE_CAM = T_BASE_MOUNT @ T_MOUNT_CAM


def path(seconds):
    """T_odom_base (4, 4) of a smooth drive."""
    return se3.exp([0.5 * seconds, 0.1 * np.sin(seconds), 0, 0, 0, 0.2 * seconds])


def picture(number):
    return np.random.default_rng(number).integers(
        0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8
    )


def depth_counts(number):
    return np.random.default_rng(number).integers(
        500, 4000, (CAMERA.height, CAMERA.width), np.uint16
    )


class CameraRig:
    """Publishers on the test's client. profile: their quality of service."""

    def __init__(
        self,
        graph,
        source="odometry",
        compressed=False,
        depth=None,
        profile=qos_profile_sensor_data,
        odom_frame="odom",
    ):
        self._source, self._compressed, self._depth_kind, self._odom_frame = (
            source,
            compressed,
            depth,
            odom_frame,
        )
        create = graph.client.create_publisher
        self._image = (
            create(CompressedImage, "image/compressed", profile)
            if compressed
            else create(Image, "image", profile)
        )
        self._info = create(CameraInfo, "camera_info", profile)
        self._poses = create(*POSES[source], profile)
        if depth == "stereo":
            self._depth, self._right_info = (
                create(Image, "right/image", profile),
                create(CameraInfo, "right/camera_info", profile),
            )
        elif depth is not None:
            self._depth = (
                create(Image, "depth", profile)
                if depth == "raw"
                else create(CompressedImage, "depth/compressedDepth", profile)
            )
        self._backend = None

    def meet(self, backend):
        """Until the back end hears every topic. What is sent here is too old to be of use."""
        self._backend = None

        def heard():
            self.image(0, ms=-100_000)
            self.info()
            self.pose(ms=-50_000)
            if self._depth_kind is not None:
                self.depth(0, ms=-50_000)
            return all(topic.count for topic in _topics(backend))

        until(heard)
        counts = None
        while counts != (counts := [topic.count for topic in _topics(backend)]):
            time.sleep(0.2)  # until the last of these is in
        self._backend = backend

    def _publish(self, publisher, message):
        """Wait until it is heard: a burst would overflow the queues, as no camera does."""
        if self._backend is None:
            publisher.publish(message)
            return
        topic = next(
            topic for topic in _topics(self._backend) if topic.name == publisher.topic_name
        )
        before = topic.count
        publisher.publish(message)
        until(lambda: topic.count > before)

    def image(self, number, ms, encoding="rgb8"):
        header = Header(stamp=_stamp(ms), frame_id="camera_optical")
        if self._compressed:
            self._publish(self._image, image_messages.from_encoded(jpeg(number), header))
        else:
            message = image_messages.from_rgb(picture(number), header)
            message.encoding = encoding
            self._publish(self._image, message)

    def info(self, camera=CAMERA):
        info = from_camera(camera, Header(stamp=_stamp(0), frame_id="camera_optical"))
        self._publish(self._info, info)
        if self._depth_kind == "stereo":
            info.p[3] = -BASELINE * camera.fx
            self._publish(self._right_info, info)

    def depth(self, number, ms, frame="camera_optical"):
        header = Header(stamp=_stamp(ms), frame_id=frame)
        if self._depth_kind == "stereo":  # the wall that `picture` is, DISPARITY px farther left
            self._publish(
                self._depth,
                image_messages.from_rgb(np.roll(picture(number), -DISPARITY, axis=1), header),
            )
        elif self._depth_kind == "raw":
            self._publish(self._depth, image_messages.from_depth(depth_counts(number), header))
        else:
            message = CompressedImage(header=header, format="16UC1; compressedDepth png")
            message.data.frombytes(
                bytes(12) + cv2.imencode(".png", depth_counts(number))[1].tobytes()
            )
            self._publish(self._depth, message)

    def pose(self, ms, transform=None, covariance=None, child="base_link"):
        """The pose at a time: that of `path`, or another."""
        transform = path(ms / 1000) if transform is None else transform
        header = Header(stamp=_stamp(ms), frame_id=self._odom_frame)
        covered = with_covariance(
            transform, np.zeros((6, 6)) if covariance is None else covariance
        )
        if self._source == "odometry":
            self._publish(self._poses, Odometry(header=header, child_frame_id=child, pose=covered))
        elif self._source == "pose":
            self._publish(self._poses, PoseStamped(header=header, pose=from_transform(transform)))
        else:
            self._publish(self._poses, PoseWithCovarianceStamped(header=header, pose=covered))


def _topics(backend):
    return backend._active_parts.input.monitor.topics


def publish_static_frames(graph):
    """base_link -> mount -> camera_optical, latched, each from a node of its own as
    robot_state_publisher and a driver would.
    """
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    for parent, child, transform in (
        ("base_link", "mount", T_BASE_MOUNT),
        ("mount", "camera_optical", T_MOUNT_CAM),
    ):
        publisher = graph.client.create_publisher(TFMessage, "/tf_static", profile)
        publisher.publish(
            TFMessage(
                transforms=[
                    TransformStamped(
                        header=Header(frame_id=parent),
                        child_frame_id=child,
                        transform=to_transform_message(transform),
                    )
                ]
            )
        )


def neck(seconds):
    """T_base_mount (4, 4) of a mount that turns: a head that looks around."""
    return T_BASE_MOUNT @ se3.exp([0, 0, 0, 0, 0, 0.9 * seconds])


class Head:
    """base_link -> mount on /tf, and mount -> camera_optical on /tf_static."""

    def __init__(self, graph):
        static = graph.client.create_publisher(
            TFMessage,
            "/tf_static",
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )
        static.publish(_transforms("mount", "camera_optical", T_MOUNT_CAM, 0))
        self._publisher = graph.client.create_publisher(TFMessage, "/tf", qos.TF)
        until(self._publisher.get_subscription_count)

    def turn(self, ms):
        self._publisher.publish(_transforms("base_link", "mount", neck(ms / 1000), ms))


def _transforms(parent, child, transform, ms):
    return TFMessage(
        transforms=[
            TransformStamped(
                header=Header(stamp=_stamp(ms), frame_id=parent),
                child_frame_id=child,
                transform=to_transform_message(transform),
            )
        ]
    )


def jpeg(number):
    return cv2.imencode(".jpg", picture(number))[1].tobytes()


def _stamp(ms):
    return from_nanoseconds(START_NS + round(ms * MS))
