"""Depth images sampled at pixels on smooth surfaces."""

import numpy as np


def sample_depth(depth: np.ndarray, pixels: np.ndarray, tolerance: float = 0.04) -> np.ndarray:
    """Sample depth (H, W), metres, at pixels (M, 2): the median of 3x3 pixels, (M,).

    0 where any of the nine is unknown, or where one differs from the median by `tolerance`
    (relative) or more: at an edge.
    """
    height, width = depth.shape
    x = np.clip(np.rint(pixels[:, 0]).astype(int), 1, width - 2)
    y = np.clip(np.rint(pixels[:, 1]).astype(int), 1, height - 2)
    window = np.stack([depth[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    middle = np.median(window, axis=0)
    flat = (np.abs(window - middle).max(axis=0) < tolerance * middle) & (window.min(axis=0) > 0)
    return np.where(flat, middle, 0.0)
