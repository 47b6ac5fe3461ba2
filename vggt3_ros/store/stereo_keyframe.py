"""A keyframe with the image of a second camera, and the one place where its depth is computed."""

from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry.stereo import StereoPair
from vggt3_ros.store.keyframe import Keyframe


@dataclass(frozen=True, eq=False)
class StereoKeyframe:
    """A Keyframe without depth, the image (height, width, 3) uint8 RGB that the right camera took
    at the same time, and the calibrated pair.
    """

    keyframe: Keyframe
    right: np.ndarray
    pair: StereoPair


def with_stereo_depth(sent: Keyframe | StereoKeyframe) -> Keyframe:
    """Return a Keyframe. The depth of a StereoKeyframe is computed here, which takes tens of
    milliseconds.
    """
    if not isinstance(sent, StereoKeyframe):
        return sent
    return replace(sent.keyframe, depth=sent.pair.depth_of_left(sent.keyframe.image, sent.right))
