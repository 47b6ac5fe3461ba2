"""The keyframes of a Sequence as messages: there and back, again and again, or once from first to
last.
"""

from dataclasses import replace

import numpy as np

from vggt3_ros.ros.conversions import from_keyframe, from_nanoseconds, from_transform
from vggt3_ros.store.keyframe import Keyframe

MOST = 150  # keyframes of a sequence that are kept in memory: 1.5 MB each


class Stream:
    """message(count, stamp_ns) is the count-th vggt3_ros/Keyframe, its id `count`. truth: (N, 4,
    4) of the sequence, or None.
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
        """Which keyframe of the sequence is the count-th: 0 1 2 ... N-1 N-2 ... 1 0 1 ..."""
        last = max(len(self._messages) - 1, 1)
        return last - abs(last - count % (2 * last))

    def image(self, index):
        """sensor_msgs/Image of a keyframe of the sequence."""
        return self._messages[index].image

    def small(self, index, stamp_ns):
        """A keyframe of 64 x 48 pixels, a new message each time, for what is to be refused."""
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
    """The keyframes of a Sequence once, from first to last, each read when it is sent. Serves as
    an Observer's stream.
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
