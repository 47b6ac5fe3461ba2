"""Access Open3D's TSDF grid through numpy arrays: its blocks and their voxels."""

import numpy as np
import open3d as o3d

BLOCK = 8  # voxels along the edge of a block
SPARE = 1.4  # capacity relative to the need; a grid that grows by itself doubles
AXES = np.eye(3, dtype=np.int32)


def new_grid(voxel_size: float, blocks: int) -> o3d.t.geometry.VoxelBlockGrid:
    """Return a VoxelBlockGrid of tsdf, weight and color with room for `blocks`; it grows by
    itself.
    """
    return o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"),
        (o3d.core.float32,) * 3,
        tuple(o3d.core.SizeVector([channels]) for channels in (1, 1, 3)),
        voxel_size,
        BLOCK,
        blocks,
    )


def tensor(array: np.ndarray) -> o3d.core.Tensor:
    """Return a copy of an array as a tensor of the same shape and dtype."""
    array = np.ascontiguousarray(array)
    # Open3D's stub lacks the default arguments.
    copy: o3d.core.Tensor = o3d.core.Tensor(array)  # type: ignore[call-overload]
    return copy


def make_room(grid: o3d.t.geometry.VoxelBlockGrid, blocks: np.ndarray) -> bool:
    """Reserve room for blocks (N, 3). Returns whether the grid had to be copied."""
    table = grid.hashmap()
    if table.size() + len(blocks) <= table.capacity():
        return False
    needed = table.size() + int((~places(grid, blocks)[1]).sum())
    if needed <= table.capacity():
        return False
    table.reserve(int(SPARE * needed))
    return True


def held_blocks(grid: o3d.t.geometry.VoxelBlockGrid) -> np.ndarray:
    """Return (N, 3) int32, the grid's blocks in units of their edge."""
    table = grid.hashmap()
    blocks: np.ndarray = table.key_tensor()[table.active_buf_indices().to(o3d.core.int64)].numpy()
    return blocks


def places(
    grid: o3d.t.geometry.VoxelBlockGrid, blocks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Look up blocks (N, 3) int32. Returns (N,) int64, the index at which the grid stores each,
    and (N,) a mask of those it has.
    """
    if not len(blocks):
        return np.zeros(0, np.int64), np.zeros(0, bool)
    where, found = grid.hashmap().find(tensor(blocks))
    return where.numpy().astype(np.int64), found.numpy()


def values(grid: o3d.t.geometry.VoxelBlockGrid, name: str) -> np.ndarray:
    """Return the attribute `name` as a view (places, 8, 8, 8, channels), axes z y x. Writing to it
    modifies the grid.
    """
    array: np.ndarray = grid.attribute(name).numpy()
    return array


def excerpt(
    grid: o3d.t.geometry.VoxelBlockGrid, blocks: np.ndarray, voxel_size: float
) -> o3d.t.geometry.VoxelBlockGrid | None:
    """Copy those of the blocks (N, 3) that `grid` has to a new grid; None if it has none of them."""
    at, found = places(grid, blocks)
    if not found.any():
        return None
    blocks, at = blocks[found], at[found]
    part = new_grid(voxel_size, len(blocks))
    part.hashmap().activate(tensor(blocks))
    to, _ = places(part, blocks)
    for name in ("tsdf", "weight", "color"):
        values(part, name)[to] = values(grid, name)[at]
    return part


def erase(grid: o3d.t.geometry.VoxelBlockGrid, blocks: np.ndarray) -> None:
    """Erase blocks (N, 3). Their voxels must be zero, because their memory is reused for other
    blocks.
    """
    if len(blocks):
        grid.hashmap().erase(tensor(blocks))


def block_codes(blocks: np.ndarray) -> np.ndarray:
    """Encode blocks (N, 3) as (N,) int64, unique per block: 21 bits per axis."""
    x, y, z = (blocks.astype(np.int64) + 2**20).T
    codes: np.ndarray = (x << 42) | (y << 21) | z
    return codes
