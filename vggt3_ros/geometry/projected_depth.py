"""Depth images rendered from a point cloud, for cameras without depth."""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CELL = 4  # pixels along a side; clouds are sparser than images
CHUNK = 1_000_000  # points projected at a time, to bound memory


def projected_depth(points: np.ndarray, T_world_cam: np.ndarray, camera: Camera) -> np.ndarray:
    """Return a depth image (height, width) float32, metres along z, of points (N, 3) in the world
    frame; 0 where there is no point.

    camera: without distortion. Each cell of CELL x CELL pixels has the depth of its nearest point.
    A cell much deeper than the median of its neighbourhood is left empty: its points are visible
    through gaps in a nearer surface.
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
    # repeated at the border: in a corner, five cells that are always empty would be the median
    padded = np.pad(depth, 1, mode="edge")
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
