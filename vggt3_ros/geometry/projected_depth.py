"""Depth images of a point cloud, for cameras that know no depth of their own."""

import numpy as np

from vggt3_ros.geometry import se3

CELL = 4  # pixels: clouds are thinner than images
CHUNK = 1_000_000  # points projected at a time


def projected_depth(points, T_world_cam, camera):
    """Points (N, 3) in the world's frame -> (height, width) float32 depth along z of the nearest
    in each CELL pixels, 0 where there is none.

    camera: without distortion. What shows through gaps of a nearer surface is left out where a
    neighbouring cell is much nearer.
    """
    rows, columns = -(-camera.height // CELL), -(-camera.width // CELL)
    nearest = np.full(rows * columns, np.inf)
    T_cam_world = se3.inverse(T_world_cam)
    for first in range(0, len(points), CHUNK):
        seen = se3.transform_points(T_cam_world, points[first : first + CHUNK])
        seen = seen[np.isfinite(seen).all(axis=1) & (seen[:, 2] > 1e-3)]
        column, row = np.floor((camera.project(seen) + 0.5) / CELL).astype(np.int64).T
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        np.minimum.at(nearest, row[inside] * columns + column[inside], seen[inside, 2])
    depth = nearest.reshape(rows, columns)
    padded = np.pad(depth, 1, constant_values=np.inf)
    around = np.median(
        [
            padded[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ],
        axis=0,
    )
    with np.errstate(invalid="ignore"):
        shining_through = depth > 1.2 * around
    depth = np.where(np.isfinite(depth) & ~shining_through, depth, 0).astype(np.float32)
    return np.repeat(np.repeat(depth, CELL, axis=0), CELL, axis=1)[: camera.height, : camera.width]
