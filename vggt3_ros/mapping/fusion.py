"""Depth at corrected poses -> one surface (Open3D TSDF) -> coloured points with confidence."""

import numpy as np
import open3d as o3d

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.mapping.snapshot import PointMap

BLOCK = 8  # voxels along the edge of a block
BLOCKS = 8_000  # allocated at first (80 MB); the grid grows by itself
FULL_CONFIDENCE = 8.0  # observations after which a surface is as sure as it gets


def fuse(keyframes, T_map_cam, config, device="CPU:0", progress=None):
    """Iterable of Keyframes with depth, their (N, 4, 4) poses -> PointMap in the map frame.

    TSDF with the default truncation of 4 voxels (Curless and Levoy 1996; Dong et al., ASH, for the voxel hashing). Keyframes without
    depth are left out; without any the map is empty. At most `config.max_points` points, the surest kept.
    """
    device = o3d.core.Device(device)
    grid = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight", "color"), (o3d.core.float32,) * 3, ((1), (1), (3)),
                                         config.voxel_size, BLOCK, BLOCKS, device)
    fused = 0
    for i, (keyframe, pose) in enumerate(zip(keyframes, T_map_cam)):
        if keyframe.depth is not None and (keyframe.depth > 0).any():
            fused += _integrate(grid, keyframe, pose, config, device)
        if progress:
            progress((i + 1) / len(T_map_cam))
    if not fused:
        return empty_map()
    cloud = grid.extract_point_cloud(weight_threshold=config.minimum_weight)
    if "positions" not in cloud.point or len(cloud.point.positions) == 0:
        return empty_map()
    points = cloud.point.positions.cpu().numpy().astype(np.float32)
    colors = (np.clip(cloud.point.colors.cpu().numpy(), 0, 1) * 255).astype(np.uint8)
    weights = _weights_at(grid, points, config.voxel_size)
    confidence = np.clip(weights / FULL_CONFIDENCE, 0, 1).astype(np.float32)
    return limited(PointMap(points, colors, confidence), config.max_points)


def empty_map():
    return PointMap(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))


def limited(cloud, max_points):
    """At most `max_points` of the cloud, thinned evenly over space by growing voxels."""
    if len(cloud) <= max_points:
        return cloud
    rng = np.random.default_rng(0)
    keep = np.sort(rng.choice(len(cloud), max_points, replace=False))
    return PointMap(cloud.points[keep], cloud.colors[keep], cloud.confidence[keep])


def _integrate(grid, keyframe, T_map_cam, config, device):
    """Whether the keyframe held any depth within reach."""
    camera = keyframe.camera
    depth = undistort(keyframe.depth, camera, nearest=True)
    depth = np.where(depth <= config.max_depth, depth, 0).astype(np.float32)
    color = np.ascontiguousarray(undistort(keyframe.image, camera)).astype(np.float32) / 255
    depth = o3d.t.geometry.Image(o3d.core.Tensor(np.ascontiguousarray(depth), device=device))
    color = o3d.t.geometry.Image(o3d.core.Tensor(color, device=device))
    intrinsic = o3d.core.Tensor(camera.matrix)
    extrinsic = o3d.core.Tensor(se3.inverse(T_map_cam))
    try:
        blocks = grid.compute_unique_block_coordinates(depth, intrinsic, extrinsic, 1.0, config.max_depth)
    except RuntimeError as error:
        if "No block is touched" not in str(error):
            raise
        return False  # all of it too far, or too little of it for the pixels that Open3D samples
    grid.integrate(blocks, depth, color, intrinsic, extrinsic, 1.0, config.max_depth)
    return True


def _weights_at(grid, points, voxel_size):
    """(M,) TSDF weight of the voxel nearest to each point: how many keyframes saw that surface."""
    coordinates, indices = grid.voxel_coordinates_and_flattened_indices()
    weights = grid.attribute("weight").reshape((-1, 1))[indices].cpu().numpy().ravel()
    observed = weights > 0
    keys, weights = _voxel_keys(coordinates.cpu().numpy()[observed], voxel_size), weights[observed]
    order = np.argsort(keys)
    wanted = _voxel_keys(points, voxel_size)
    at = np.clip(np.searchsorted(keys, wanted, sorter=order), 0, len(order) - 1)
    return np.where(keys[order[at]] == wanted, weights[order[at]], 1.0)


def _voxel_keys(points, voxel_size):
    """One int64 a voxel for points (M, 3): 21 bits an axis."""
    index = np.rint(points / voxel_size).astype(np.int64) + 2**20
    return (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2]
