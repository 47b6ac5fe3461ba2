"""Transforms between frames that do not move, from /tf_static. tf2_ros would do it too, but is on no wheel."""

import threading

import numpy as np
from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.static_frames import StaticFrames
from vggt3_ros.ros import qos


class StaticFramesTopic:
    """Calls changed() after each message. Transforms that make no sense are left out and logged."""

    def __init__(self, node, callback_group, changed):
        self._node, self._changed, self._frames, self._lock = node, changed, StaticFrames(), threading.Lock()
        self._subscription = node.create_subscription(TFMessage, "/tf_static", self._take, qos.TF_STATIC, callback_group=callback_group)

    def _take(self, message):
        for entry in message.transforms:
            try:
                transform = se3.from_quaternion(*_translation_and_rotation(entry.transform))
                if not np.all(np.isfinite(transform)):
                    raise ValueError("holds NaN or infinity")
            except ValueError as error:
                self._node.get_logger().warning(f"{self.topic}: {entry.header.frame_id} -> {entry.child_frame_id}: {error}")
                continue
            with self._lock:
                self._frames.add(entry.header.frame_id, entry.child_frame_id, transform)
        self._changed()

    def lookup(self, target, source):
        """T_target_source (4, 4), or None while the two are not connected."""
        with self._lock:
            return self._frames.lookup(target, source)

    @property
    def topic(self):
        return self._subscription.topic_name

    def destroy(self):
        self._node.destroy_subscription(self._subscription)


def _translation_and_rotation(transform):
    translation, rotation = transform.translation, transform.rotation
    return (translation.x, translation.y, translation.z), (rotation.x, rotation.y, rotation.z, rotation.w)
