"""Depth at corrected poses -> one surface (Open3D TSDF) -> coloured points with confidence."""

import numpy as np
import open3d as o3d

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.geometry.local_frame import origin_near, shifted, too_far
from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.surface.surface_points import SurfacePoints
from vggt3_ros.surface.voxel_blocks import erase, held_blocks, make_room, new_grid, places, values
from vggt3_ros.system import memory_limits

BLOCKS = 8_000  # allocated at first (80 MB), more when they are needed
BLOCKS_OF_ONE = 1_500  # what one keyframe sees


def fuse(keyframes, T_map_cam, config, progress=None):
    """Iterable of Keyframes with depth, their (N, 4, 4) poses -> PointMap in the map frame, as
    :meth:`Surface.cloud` gives it.
    """
    surface = Surface(config, origin_near(T_map_cam[0][:3, 3]) if len(T_map_cam) else np.zeros(3))
    for i, (keyframe, pose) in enumerate(zip(keyframes, T_map_cam)):
        surface.add(keyframe, pose)
        if progress:
            progress((i + 1) / len(T_map_cam))
    return surface.cloud()


class Surface:
    """A TSDF that keyframes are fused into, and taken out of again when their poses turn out to be
    others.

    The default truncation of Open3D (Curless and Levoy 1996; Dong et al., ASH, for the voxel
    hashing). A voxel holds the mean of what the keyframes saw there and how many they are, so that
    one keyframe, fused alone, can be subtracted (BundleFusion, Dai et al. 2017); what remains is
    the surface of the others up to rounding. Keyframes without depth in reach leave it as it is.

    origin (3,), metres in the map: the surface is kept from there on, in float32; keyframes that
    are :func:`too_far` from it have none.
    """

    def __init__(self, config, origin=np.zeros(3)):
        self.config, self.origin = config, np.array(origin, float)
        self._grid = new_grid(config.voxel_size, BLOCKS)
        self._points, self._touched = SurfacePoints(config), []

    def add(self, keyframe, T_map_cam):
        """Fuse a Keyframe at T_map_cam (4, 4)."""
        self._touched.append(self._integrated(self._grid, keyframe, T_map_cam))

    def remove(self, keyframe, T_map_cam):
        """Take a Keyframe out that was fused with the same depth at the same pose, to the bit;
        ValueError when it was not.
        """
        alone = new_grid(self.config.voxel_size, BLOCKS_OF_ONE)
        if not len(self._integrated(alone, keyframe, T_map_cam)):
            return
        blocks = held_blocks(alone)
        (theirs, _), (ours, found) = places(alone, blocks), places(self._grid, blocks)
        seen, weight = values(alone, "weight")[theirs], values(self._grid, "weight")
        if seen[~found].any() or (weight[ours[found]] < seen[found]).any():
            raise ValueError(f"keyframe {keyframe.id} was never fused at this pose")
        # Blocks in which it saw nothing may be gone with another keyframe.
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

    def cloud(self):
        """PointMap of the surfaces seen by `minimum_weight` keyframes, at most `max_points`; empty
        without any.
        """
        cloud = self._points.update(self._grid, np.vstack(self._touched) if self._touched else [])
        self._touched = []
        return PointMap.around(self.origin, cloud.points, cloud.colors, cloud.confidence).thinned(
            self.config.max_points
        )

    def _integrated(self, grid, keyframe, T_map_cam):
        """(N, 3) int32: the blocks that the keyframe, fused into the grid, may have changed; none
        without depth within reach.
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
        depth, color = (
            o3d.t.geometry.Image(o3d.core.Tensor(np.ascontiguousarray(image)))
            for image in (depth, color)
        )
        intrinsic, extrinsic = (
            o3d.core.Tensor(camera.matrix),
            o3d.core.Tensor(se3.inverse(T_local_cam)),
        )
        try:
            blocks = grid.compute_unique_block_coordinates(depth, intrinsic, extrinsic, 1.0, reach)
        except RuntimeError as error:
            if "No block is touched" not in str(error):
                raise
            # all of it too far, or too little of it for the pixels that Open3D samples
            return nothing
        if make_room(grid, blocks.numpy()) and grid is self._grid:
            memory_limits.give_back()  # the copies
        grid.integrate(blocks, depth, color, intrinsic, extrinsic, 1.0, reach)
        return blocks.numpy()


def empty_map():
    return PointMap(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)
    )
