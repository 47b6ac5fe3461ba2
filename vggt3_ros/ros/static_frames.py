"""Transforms between frames that do not move, from /tf_static. tf2_ros would do it too, but is on no wheel."""

import threading

import numpy as np
from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry import se3
from vggt3_ros.ros import qos


class StaticFrames:
    """Calls changed() after each message. Transforms that make no sense are left out and logged."""

    def __init__(self, node, callback_group, changed):
        self._node, self._changed, self._parents, self._lock = node, changed, {}, threading.Lock()
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
                self._parents[_bare(entry.child_frame_id)] = _bare(entry.header.frame_id), transform
        self._changed()

    def lookup(self, target, source):
        """T_target_source (4, 4), or None while the two are not connected."""
        with self._lock:
            parents = dict(self._parents)
        to_target, to_source = _ancestors(parents, _bare(target)), _ancestors(parents, _bare(source))
        common = next((frame for frame in to_target if frame in to_source), None)
        return None if common is None else se3.orthonormalize(se3.inverse(to_target[common]) @ to_source[common])

    @property
    def topic(self):
        return self._subscription.topic_name

    def destroy(self):
        self._node.destroy_subscription(self._subscription)


def _ancestors(parents, frame):
    """{ancestor: T_ancestor_frame} of a frame, itself among them, nearest first; a loop of frames ends the walk."""
    found, transform = {frame: np.eye(4)}, np.eye(4)
    while frame in parents and parents[frame][0] not in found:
        frame, T_parent_frame = parents[frame]
        transform = T_parent_frame @ transform
        found[frame] = transform
    return found


def _translation_and_rotation(transform):
    translation, rotation = transform.translation, transform.rotation
    return (translation.x, translation.y, translation.z), (rotation.x, rotation.y, rotation.z, rotation.w)


def _bare(frame):
    return frame.lstrip("/")  # as ROS 1 drivers still name them
