"""Messages of a bag -> poses, images and depth, by the code that reads them live."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vggt3_ros.messages import images
from vggt3_ros.messages.compressed_depth import decompress_depth
from vggt3_ros.messages.reading import to_transform


def pose_of(message):
    """(4, 4) of a message of one of the types POSES, or of a transform of a TFMessage."""
    if hasattr(message, "transform"):
        rotation, translation = message.transform.rotation, message.transform.translation
        return to_transform(_Pose(translation, rotation), "transform")
    pose = message.pose
    return to_transform(pose.pose if hasattr(pose, "pose") else pose)


@dataclass
class _Pose:
    position: object
    orientation: object


def series(poses):
    """[(stamp, pose), ...] -> (N,) increasing stamps and (N, 4, 4)."""
    poses = dict(poses)
    stamps = np.array(sorted(poses), np.int64)
    return stamps, np.array([poses[int(stamp)] for stamp in stamps])


def image_of(message, camera, levels):
    if hasattr(message, "format"):
        return images.decompress(message, camera.width, camera.height, "image", levels.to_8_bits)[
            0
        ]
    return images.to_rgb(message, "image", levels.to_8_bits)


def wide_images(messages):
    """Those of the images, or of the Keyframes' images, that have 16 bits, as uint16; what cannot
    be read is told of when it is wanted.
    """
    found = []
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


def depth_of(message):
    return decompress_depth(message) if hasattr(message, "format") else images.to_depth(message)
