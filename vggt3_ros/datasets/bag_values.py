"""Messages of a bag to poses, images and depth, by the code that also reads them live."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vggt3_ros.datasets.bag_types import Message
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages import images
from vggt3_ros.messages.compressed_depth import decompress_depth
from vggt3_ros.messages.levels import Levels
from vggt3_ros.messages.reading import to_transform


def pose_of(message: Message) -> np.ndarray:
    """Return the (4, 4) pose of a message of a type in POSES, or of a transform of a TFMessage."""
    if hasattr(message, "transform"):
        rotation, translation = message.transform.rotation, message.transform.translation
        return to_transform(_Pose(translation, rotation), "transform")
    pose = message.pose
    return to_transform(pose.pose if hasattr(pose, "pose") else pose)


@dataclass
class _Pose:
    position: Message
    orientation: Message


def series(poses: Iterable[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Sort (stamp, pose) pairs into (N,) increasing stamps and (N, 4, 4) poses; the last pose of a
    stamp counts.
    """
    by_stamp = dict(poses)
    stamps = np.array(sorted(by_stamp), np.int64)
    return stamps, np.array([by_stamp[int(stamp)] for stamp in stamps])


def image_of(message: Message, camera: Camera, levels: Levels) -> np.ndarray:
    """Return the image (height, width, 3) uint8 RGB of an Image or CompressedImage. Raise
    ValueError.
    """
    if hasattr(message, "format"):
        return images.decompress(message, camera.width, camera.height, "image", levels.to_8_bits)[
            0
        ]
    return images.to_rgb(message, "image", levels.to_8_bits)


def wide_images(messages: Iterable[Message]) -> list[np.ndarray]:
    """Return the 16-bit images among these images, or Keyframes' images, as uint16. Unreadable
    ones are skipped here; they are reported when they are requested.
    """
    found: list[np.ndarray] = []
    for message in messages:
        sent = (
            [message.image, message.compressed_image]
            if hasattr(message, "compressed_image")
            else [message]
        )
        for image in sent:
            with suppress(ValueError):
                found += images.wide(image)
    return found


def depth_of(message: Message) -> np.ndarray:
    """Return the depth (height, width) in metres of an Image or CompressedImage. Raise ValueError."""
    return decompress_depth(message) if hasattr(message, "format") else images.to_depth(message)
