"""Fuse depth images at corrected poses into a TSDF (Open3D) and extract coloured points with
confidence.
"""

from collections.abc import Callable, Iterable

import numpy as np
import open3d as o3d

from vggt3_ros.config import MapConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.geometry.local_frame import origin_near, shifted, too_far
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.surface.surface_points import SurfacePoints
from vggt3_ros.surface.voxel_blocks import (
    erase,
    held_blocks,
    make_room,
    new_grid,
    places,
    tensor,
    values,
)
from vggt3_ros.system import memory_limits

BLOCKS = 8_000  # initial allocation (80 MB); grows on demand
BLOCKS_OF_ONE = 1_500  # initial allocation for a single keyframe


def fuse(
    keyframes: Iterable[Keyframe],
    T_map_cam: np.ndarray,
    config: MapConfig,
    progress: Callable[[float], object] | None = None,
) -> PointMap:
    """Fuse Keyframes at their T_map_cam (N, 4, 4) into a PointMap, as :meth:`Surface.cloud`
    returns it.

    progress(fraction) is called after each keyframe.
    """
    surface = Surface(config, origin_near(T_map_cam[0][:3, 3]) if len(T_map_cam) else np.zeros(3))
    for i, (keyframe, pose) in enumerate(zip(keyframes, T_map_cam)):
        surface.add(keyframe, pose)
        if progress:
            progress((i + 1) / len(T_map_cam))
    return surface.cloud()


class Surface:
    """A TSDF to which keyframes can be added and from which they can be removed when their poses
    change.

    Uses Open3D's default truncation (Curless and Levoy 1996; Dong et al., ASH, for the voxel
    hashing). A voxel holds the mean and the number of its observations. Hence a keyframe that was
    fused alone can be subtracted (BundleFusion, Dai et al. 2017); what remains is the surface of
    the others, up to rounding. Keyframes without depth in range have no effect.

    origin (3,), metres in the map, zero by default: the surface is stored relative to it, in
    float32. Keyframes that are :func:`too_far` from it are ignored.
    """

    def __init__(self, config: MapConfig, origin: np.ndarray | None = None) -> None:
        self.config = config
        self.origin = np.zeros(3) if origin is None else np.array(origin, float)
        self._grid = new_grid(config.voxel_size, BLOCKS)
        self._points = SurfacePoints(config)
        self._touched: list[np.ndarray] = []

    def add(self, keyframe: Keyframe, T_map_cam: np.ndarray) -> None:
        """Fuse a Keyframe at T_map_cam (4, 4)."""
        self._touched.append(self._integrated(self._grid, keyframe, T_map_cam))

    def remove(self, keyframe: Keyframe, T_map_cam: np.ndarray) -> None:
        """Remove a Keyframe that was fused with the same depth at the same pose, bit for bit.

        Raises ValueError if it was not fused there.
        """
        alone = new_grid(self.config.voxel_size, BLOCKS_OF_ONE)
        if not len(self._integrated(alone, keyframe, T_map_cam)):
            return
        blocks = held_blocks(alone)
        (theirs, _), (ours, found) = places(alone, blocks), places(self._grid, blocks)
        seen, weight = values(alone, "weight")[theirs], values(self._grid, "weight")
        if seen[~found].any() or (weight[ours[found]] < seen[found]).any():
            raise ValueError(f"keyframe {keyframe.id} was never fused at this pose")
        # Blocks that it did not observe may have been erased with another keyframe.
        blocks, theirs, ours, seen = blocks[found], theirs[found], ours[found], seen[found]
        before = weight[ours]
        after = before - seen
        left = after > 0.5  # weights are counts
        for name in ("tsdf", "color"):
            mean = values(self._grid, name)
            total = mean[ours] * before - values(alone, name)[theirs] * seen
            mean[ours] = np.divide(total, after, out=np.zeros_like(total), where=left)
        weight[ours] = after
        erase(self._grid, blocks[~left.reshape(len(left), -1).any(axis=1)])
        self._touched.append(blocks)

    def cloud(self) -> PointMap:
        """Return the PointMap of all surfaces observed by at least `minimum_weight` keyframes,
        thinned to `max_points`.

        Empty if there are none.
        """
        cloud = self._points.update(
            self._grid, np.vstack(self._touched) if self._touched else np.zeros((0, 3), np.int32)
        )
        self._touched = []
        return PointMap.around(self.origin, cloud.points, cloud.colors, cloud.confidence).thinned(
            self.config.max_points
        )

    def _integrated(
        self, grid: o3d.t.geometry.VoxelBlockGrid, keyframe: Keyframe, T_map_cam: np.ndarray
    ) -> np.ndarray:
        """Fuse the keyframe into the grid. Returns (N, 3) int32, the blocks that may have changed;
        none without depth in range.
        """
        nothing = np.zeros((0, 3), np.int32)
        if keyframe.depth is None or not (keyframe.depth > 0).any():
            return nothing
        if too_far(T_map_cam[:3, 3], self.origin, self.config.voxel_size):
            return nothing
        T_local_cam = shifted(T_map_cam, -self.origin)
        camera, reach = keyframe.camera, self.config.max_depth
        depth = undistort(keyframe.depth, camera, nearest=True)
        depth = np.where(depth <= reach, depth, 0).astype(np.float32)
        color = np.ascontiguousarray(undistort(keyframe.image, camera)).astype(np.float32) / 255
        depth_image, color_image = (
            o3d.t.geometry.Image(tensor(image)) for image in (depth, color)
        )
        intrinsic, extrinsic = (
            tensor(camera.matrix),
            tensor(se3.inverse(T_local_cam)),
        )
        try:
            blocks = grid.compute_unique_block_coordinates(
                depth_image, intrinsic, extrinsic, 1.0, reach
            )
        except RuntimeError as error:
            if "No block is touched" not in str(error):
                raise
            # The depth is out of range, or too sparse for the pixels that Open3D samples.
            return nothing
        if make_room(grid, blocks.numpy()) and grid is self._grid:
            memory_limits.give_back()  # memory of the old blocks
        grid.integrate(blocks, depth_image, color_image, intrinsic, extrinsic, 1.0, reach)
        changed: np.ndarray = blocks.numpy()
        return changed


def empty_map() -> PointMap:
    """Return a PointMap without points."""
    return PointMap(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)
    )
