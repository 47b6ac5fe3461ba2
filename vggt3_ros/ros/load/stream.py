"""The keyframes of a Sequence as messages: back and forth repeatedly, or once from first to last."""

from dataclasses import replace

import numpy as np

from vggt3_ros.ros.conversions import from_keyframe, from_nanoseconds, from_transform
from vggt3_ros.store.keyframe import Keyframe

MOST = 150  # most keyframes kept in memory, 1.5 MB each


class Stream:
    """message(count, stamp_ns) returns the count-th vggt3_ros/Keyframe, with id `count`. truth:
    (N, 4, 4) of the sequence, or None.
    """

    def __init__(self, sequence, odom_frame="odom"):
        keyframes = [keyframe for keyframe, _ in zip(sequence.keyframes, range(MOST))]
        self.camera = sequence.camera
        self.T_odom_cam = np.array([keyframe.T_odom_cam for keyframe in keyframes])
        self.truth = (
            None if sequence.groundtruth is None else sequence.groundtruth[: len(keyframes)]
        )
        self._messages = [from_keyframe(keyframe, odom_frame, "camera") for keyframe in keyframes]

    def index(self, count):
        """Return the index of the count-th keyframe: 0 1 2 ... N-1 N-2 ... 1 0 1 ..."""
        last = max(len(self._messages) - 1, 1)
        return last - abs(last - count % (2 * last))

    def image(self, index):
        """Return the sensor_msgs/Image of a keyframe."""
        return self._messages[index].image

    def small(self, index, stamp_ns):
        """Return a new keyframe message of 64 x 48 pixels, to be made malformed."""
        stamp = from_nanoseconds(stamp_ns)
        camera = self.camera.scaled(64, 48)
        rng = np.random.default_rng(index)
        keyframe = Keyframe(
            1,
            1,
            rng.integers(0, 256, (48, 64, 3), np.uint8),
            camera,
            self.T_odom_cam[index],
            rng.uniform(0.5, 5.0, (48, 64)).astype(np.float32),
        )
        message = from_keyframe(keyframe, self._messages[index].header.frame_id, "camera")
        for header in (
            message.header,
            message.image.header,
            message.depth.header,
            message.camera_info.header,
        ):
            header.stamp = stamp
        return message

    def __len__(self):
        return len(self._messages)

    def message(self, count, stamp_ns):
        index, stamp = self.index(count), from_nanoseconds(stamp_ns)
        message = self._messages[index]
        message.id, message.t_odom_camera = count, from_transform(self.T_odom_cam[index])
        for header in (
            message.header,
            message.image.header,
            message.depth.header,
            message.camera_info.header,
        ):
            header.stamp = stamp
        return message


class Walk:
    """Sends the keyframes of a Sequence once, from first to last, reading each when it is sent.
    Replaces Stream for an Observer.
    """

    def __init__(self, sequence):
        self.camera, self._keyframes, self.sent = sequence.camera, sequence.keyframes, 0

    def __len__(self):
        return max(1, self.sent)

    def message(self, count, stamp_ns):
        message = from_keyframe(
            replace(self._keyframes[self.sent], stamp_ns=stamp_ns), "odom", "camera"
        )
        self.sent += 1
        return message

    def image(self, index):
        return from_keyframe(self._keyframes[index], "odom", "camera").image
