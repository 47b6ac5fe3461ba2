"""Open3D's TSDF grid seen as numpy arrays: which blocks there are, and what their voxels hold."""

import numpy as np
import open3d as o3d

BLOCK = 8  # voxels along the edge of a block
SPARE = 1.4  # times what is needed: a grid that grows by itself doubles
AXES = np.eye(3, dtype=np.int32)


def new_grid(voxel_size, blocks):
    """A VoxelBlockGrid of tsdf, weight and color with room for `blocks`; it grows by itself."""
    return o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (o3d.core.float32,) * 3,
        ((1), (1), (3)),
        voxel_size,
        BLOCK,
        blocks,
    )


def make_room(grid, blocks):
    """Before blocks (N, 3) are added. Whether the grid had to be copied for that."""
    table = grid.hashmap()
    if table.size() + len(blocks) <= table.capacity():
        return False
    needed = table.size() + int((~places(grid, blocks)[1]).sum())
    if needed <= table.capacity():
        return False
    table.reserve(int(SPARE * needed))
    return True


def held_blocks(grid):
    """(N, 3) int32 of the blocks in the grid, in units of their edge."""
    return (
        grid.hashmap().key_tensor()[grid.hashmap().active_buf_indices().to(o3d.core.int64)].numpy()
    )


def places(grid, blocks):
    """(N, 3) int32 blocks -> (N,) int64 where the grid keeps them, (N,) mask of those it has."""
    if not len(blocks):
        return np.zeros(0, np.int64), np.zeros(0, bool)
    where, found = grid.hashmap().find(o3d.core.Tensor(np.ascontiguousarray(blocks)))
    return where.numpy().astype(np.int64), found.numpy()


def values(grid, name):
    """(places, 8, 8, 8, channels) z y x of a grid's own memory: what is written to them is written
    to the grid.
    """
    return grid.attribute(name).numpy()


def excerpt(grid, blocks, voxel_size):
    """A grid of copies of those of the blocks (N, 3) that `grid` has; None when it has none of
    them.
    """
    at, found = places(grid, blocks)
    if not found.any():
        return None
    blocks, at = blocks[found], at[found]
    part = new_grid(voxel_size, len(blocks))
    part.hashmap().activate(o3d.core.Tensor(blocks))
    to, _ = places(part, blocks)
    for name in ("tsdf", "weight", "color"):
        values(part, name)[to] = values(grid, name)[at]
    return part


def erase(grid, blocks):
    """Drop blocks (N, 3); their voxels must hold zeros, for others may be kept in their places."""
    if len(blocks):
        grid.hashmap().erase(o3d.core.Tensor(np.ascontiguousarray(blocks)))


def block_codes(blocks):
    """(N, 3) -> (N,) int64, one for each block: 21 bits an axis."""
    x, y, z = (blocks.astype(np.int64) + 2**20).T
    return (x << 42) | (y << 21) | z
