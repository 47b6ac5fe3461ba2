"""Depth images looked up at pixels, where the surface is sure."""

import numpy as np


def sample_depth(depth, pixels, tolerance=0.04):
    """Depth (H, W) at pixels (M, 2): median of 3x3, 0 where unknown or where the 3x3 spans an edge
    (`tolerance`, relative).
    """
    height, width = depth.shape
    x = np.clip(np.rint(pixels[:, 0]).astype(int), 1, width - 2)
    y = np.clip(np.rint(pixels[:, 1]).astype(int), 1, height - 2)
    window = np.stack([depth[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    middle = np.median(window, axis=0)
    flat = (np.abs(window - middle).max(axis=0) < tolerance * middle) & (window.min(axis=0) > 0)
    return np.where(flat, middle, 0.0)
