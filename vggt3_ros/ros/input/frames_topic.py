"""Transforms between the frames of a robot, from /tf_static and, for moving frames, /tf.

Replaces tf2_ros, which is not available as a wheel.
"""

import threading
from functools import partial

from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry.frame_tree import FrameTree
from vggt3_ros.messages.reading import MAX_FRAME_NAME, to_nanoseconds
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import to_matrix
from vggt3_ros.ros.input.intake import shown


class FramesTopic:
    """Collects transforms and calls changed() after each message. Invalid transforms are logged
    and skipped. gap_ns(): see FrameTree.

    listener: the node that holds the subscriptions. topics: names of the topics for static and
    moving transforms.
    """

    def __init__(self, node, listener, callback_group, gap_ns, changed):
        self._node, self._gap_ns, self._changed, self._lock = (
            node,
            gap_ns,
            changed,
            threading.Lock(),
        )
        self._frames = FrameTree(gap_ns(), matrix=to_matrix)
        self.topics = [node.resolve_topic_name(topic) for topic in ("/tf_static", "/tf")]
        for topic, take, profile in (
            ("/tf_static", self._take_static, qos.TF_STATIC),
            ("/tf", self._take_moving, qos.TF),
        ):
            listener.create_subscription(
                TFMessage,
                topic,
                take,
                qos.own(profile),
                callback_group=callback_group,
                qos_overriding_options=qos.overridable(),
            )

    def _take_static(self, message):
        for entry in message.transforms:
            self._take(
                self.topics[0],
                entry,
                lambda entry=entry: self._frames.fix(
                    entry.header.frame_id, entry.child_frame_id, to_matrix(entry.transform)
                ),
            )
        self._changed()

    def _take_moving(self, message):
        for entry in message.transforms:
            self._take(self.topics[1], entry, partial(self._move, entry))
        self._changed()

    def _move(self, entry):
        if self._frames.move(
            entry.header.frame_id,
            entry.child_frame_id,
            to_nanoseconds(entry.header.stamp),
            entry.transform,
        ):
            self._node.get_logger().warning(
                shown(
                    f"'{entry.child_frame_id}' is on both {self.topics[0]} and {self.topics[1]}: using the latter"
                )
            )

    def _take(self, topic, entry, use):
        try:
            if max(len(entry.header.frame_id), len(entry.child_frame_id)) > MAX_FRAME_NAME:
                raise ValueError(f"a frame id may have at most {MAX_FRAME_NAME} characters")
            with self._lock:
                use()
        except ValueError as error:
            text = shown(f"{topic}: {entry.header.frame_id} -> {entry.child_frame_id}: {error}")
            self._node.get_logger().warning(text, throttle_duration_sec=1.0)

    def at(self, target, source, stamp_ns):
        """Return T_target_source (4, 4), None while the two are not connected. Raises NotYet,
        Unknown.
        """
        with self._lock:
            self._frames.gap_ns = self._gap_ns()
            return self._frames.at(target, source, stamp_ns)

    def connected(self, target, source):
        """Return whether the two frames are connected."""
        with self._lock:
            return self._frames.connected(target, source)
