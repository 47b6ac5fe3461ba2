"""Extract the points of a TSDF incrementally: the cost depends on the size of the change, not of
the map.
"""

from collections.abc import Sequence

import numpy as np
import open3d as o3d

from vggt3_ros.config import MapConfig
from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.surface.voxel_blocks import (
    AXES,
    BLOCK,
    block_codes,
    excerpt,
    held_blocks,
    places,
    values,
)

FULL_CONFIDENCE = 8.0  # observations that give full confidence
# Tolerance in voxels. A point lies between two voxels along one axis, and on the grid in the others.
ON_GRID = 1e-3


class SurfacePoints:
    """The points of a TSDF by block.

    A point lies on the edge from a voxel to the next one along an axis. It belongs to the block of
    that voxel, so that the points of a block depend on that block and on the next block along each
    axis.
    """

    def __init__(self, config: MapConfig) -> None:
        self._config = config
        self._points, self._colors = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
        self._confidence, self._codes = np.zeros(0, np.float32), np.zeros(0, np.int64)

    def update(self, grid: o3d.t.geometry.VoxelBlockGrid, touched: np.ndarray) -> PointMap:
        """Update the points after the blocks `touched` (N, 3) of the grid changed, were added or
        were erased.

        Returns the PointMap of all surfaces with enough observations.
        """
        if len(touched):
            touched = np.unique(touched, axis=0)
            again = np.unique(np.vstack([touched, *(touched - axis for axis in AXES)]), axis=0)
            needed = np.unique(np.vstack([again, *(again + axis for axis in AXES)]), axis=0)
            if 2 * len(needed) > grid.hashmap().size():
                self._replace(slice(0), self._extracted(grid))
            else:
                codes = block_codes(again)
                fresh = self._extracted(excerpt(grid, needed, self._config.voxel_size))
                self._replace(
                    ~np.isin(self._codes, codes),
                    [part[np.isin(fresh[-1], codes)] for part in fresh],
                )
        return PointMap(self._points, self._colors, self._confidence)

    def _replace(self, kept: np.ndarray | slice, fresh: Sequence[np.ndarray]) -> None:
        """Drop the points that are not `kept` and append the `fresh` ones."""
        held: tuple[np.ndarray, ...] = (self._points, self._colors, self._confidence, self._codes)
        self._points, self._colors, self._confidence, self._codes = (
            np.concatenate([old[kept], new]) for old, new in zip(held, fresh)
        )

    def _extracted(
        self, grid: o3d.t.geometry.VoxelBlockGrid | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return points, colors, confidence and block codes of a grid's surface."""
        nothing = (
            np.zeros((0, 3), np.float32),
            np.zeros((0, 3), np.uint8),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
        )
        if grid is None or not len(held_blocks(grid)):
            return nothing
        cloud = grid.extract_point_cloud(weight_threshold=self._config.minimum_weight)
        if "positions" not in cloud.point or len(cloud.point.positions) == 0:
            return nothing
        points = cloud.point.positions.numpy().astype(np.float32)
        colors = (np.clip(cloud.point.colors.numpy(), 0, 1) * 255).astype(np.uint8)
        weights = _weights_at(grid, np.rint(points / self._config.voxel_size).astype(np.int32))
        return (
            points,
            colors,
            np.clip(weights / FULL_CONFIDENCE, 0, 1).astype(np.float32),
            block_codes(self._voxels(points) // BLOCK),
        )

    def _voxels(self, points: np.ndarray) -> np.ndarray:
        """Return (M, 3) the voxel at the lower end of the edge that each point lies on."""
        inside = points / self._config.voxel_size
        nearest = np.rint(inside)
        return np.where(np.abs(inside - nearest) < ON_GRID, nearest, np.floor(inside)).astype(
            np.int64
        )


def _weights_at(grid: o3d.t.geometry.VoxelBlockGrid, voxels: np.ndarray) -> np.ndarray:
    """Return (M,) the TSDF weight of voxels (M, 3) int32: the number of keyframes that observed
    the surface.
    """
    blocks = voxels // BLOCK
    held, found = places(grid, blocks)
    x, y, z = (voxels - BLOCK * blocks).T
    weights = values(grid, "weight")[np.where(found, held, 0), z, y, x, 0]
    return np.where(found & (weights > 0), weights, 1.0)
