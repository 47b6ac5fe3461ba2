"""Transforms between frames that do not move, from /tf_static. tf2_ros would do it too, but is on no wheel."""

import threading

from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry.static_frames import StaticFrames
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import to_matrix
from vggt3_ros.ros.intake import shown
from vggt3_ros.ros.reading import MAX_FRAME_NAME


class StaticFramesTopic:
    """Calls changed() after each message. Transforms that make no sense are left out and logged."""

    def __init__(self, node, callback_group, changed):
        self._node, self._changed, self._frames, self._lock = node, changed, StaticFrames(), threading.Lock()
        self._subscription = node.create_subscription(TFMessage, "/tf_static", self._take, qos.own(qos.TF_STATIC),
                                                      callback_group=callback_group,
                                                      qos_overriding_options=qos.overridable_fully())

    def _take(self, message):
        for entry in message.transforms:
            try:
                transform = _transform(entry)
                with self._lock:
                    self._frames.add(entry.header.frame_id, entry.child_frame_id, transform)
            except ValueError as error:
                text = shown(f"{self.topic}: {entry.header.frame_id} -> {entry.child_frame_id}: {error}")
                self._node.get_logger().warning(text, throttle_duration_sec=1.0)
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


def _transform(entry):
    """(4, 4) of a TransformStamped; ValueError when it is none."""
    if max(len(entry.header.frame_id), len(entry.child_frame_id)) > MAX_FRAME_NAME:
        raise ValueError(f"frame ids have at most {MAX_FRAME_NAME} characters")
    return to_matrix(entry.transform)
