"""The (key, point) pairs of a keyframe, from which a scene memory is built."""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.features.frame import Frame

CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of one keyframe. pixels (M, 2) and points (M, 3), metres, both of its undistorted
    camera (optical axes); keys (M, 64) float32 of unit length.
    """

    pixels: np.ndarray
    points: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def pairs_of(frame: Frame, max_depth: float) -> Pairs:
    """Return the Pairs of a Frame's keypoints with a depth of at most `max_depth` metres.

    Uses keypoints rather than cells of the dense map: a keypoint is localized to about one pixel,
    a cell to eight. On the real kitchen this improved the memory's own pose from 2.1 cm to 0.9 cm.
    """
    known = (frame.keypoint_depth > 0) & (frame.keypoint_depth <= max_depth)
    pixels = frame.features.keypoints[known].astype(float)
    points = frame.camera.unproject(pixels, frame.keypoint_depth[known].astype(float))
    return Pairs(pixels, points, unit(frame.features.descriptors[known]))


def unit(keys: np.ndarray) -> np.ndarray:
    """Return (M, C) as float32 rows of unit length."""
    keys = keys.astype(np.float32)
    rows: np.ndarray = keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-6)
    return rows
