"""(key, point) pairs of a keyframe: what a scene memory is made of."""

from dataclasses import dataclass

import numpy as np

CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Pairs:
    """What one keyframe has to remember. pixels (M, 2) and points (M, 3) metres, both of its
    undistorted camera (optical axes); keys (M, 64) float32 of unit length.
    """

    pixels: np.ndarray
    points: np.ndarray
    keys: np.ndarray

    def __len__(self):
        return len(self.keys)


def pairs_of(frame, max_depth):
    """Frame -> Pairs of its keypoints that have depth, at most `max_depth` metres of it.

    Keypoints, not cells of the dense map: a keypoint is found again to about a pixel, a cell to
    its eight. Over the real kitchen that took the memory's own answer from 2.1 cm to 0.9.
    """
    known = (frame.keypoint_depth > 0) & (frame.keypoint_depth <= max_depth)
    pixels = frame.features.keypoints[known].astype(float)
    points = frame.camera.unproject(pixels, frame.keypoint_depth[known].astype(float))
    return Pairs(pixels, points, unit(frame.features.descriptors[known]))


def unit(keys):
    """(M, C) -> float32 rows of unit length."""
    keys = keys.astype(np.float32)
    return keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-6)
