"""Project the map to a 2D occupancy grid: occupied by obstacles, free where keyframes saw through,
unknown elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vggt3_ros.geometry.camera import Camera

FREE, OCCUPIED, UNKNOWN = 0, 100, -1
FEWEST_POINTS = 3  # per occupied cell; fewer are noise
FLOOR = 0.3  # metres below min_height that a ray may still reach, because the floor lies there
LAYER = 0.2  # metres, height of the voxels that the points are thinned to; one ray ends in each
LARGEST = 16_000_000  # cells
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True, eq=False)
class Grid:
    """An occupancy grid. cells (rows, columns) int8: FREE, OCCUPIED or UNKNOWN; columns along x,
    rows along y of the grid frame, whose origin is the outer corner of cell (0, 0) and whose z
    points up. T_map_grid (4, 4): pose of that frame in the map. resolution: metres per cell.
    """

    cells: np.ndarray
    resolution: float
    T_map_grid: np.ndarray


class GridConfig(Protocol):
    """Parameters of the grid: metres per cell, the height limits of obstacles, metres, and the map
    axis that points up (x, y, z, -x, -y or -z).
    """

    @property
    def resolution(self) -> float: ...

    @property
    def min_height(self) -> float: ...

    @property
    def max_height(self) -> float: ...

    @property
    def up(self) -> str: ...


def occupancy(
    points: np.ndarray,
    T_map_cam: np.ndarray,
    cameras: Sequence[Camera],
    config: GridConfig,
    reach: float,
) -> Grid:
    """Compute the Grid of map points (M, 3), metres, seen from keyframe poses T_map_cam (N, 4, 4)
    by their N Cameras.

    reach: maximum range of a keyframe, metres. A cell is occupied if it holds points between the
    height limits. It is free if a ray from a keyframe to a point in its view crosses it between
    these limits, or just below, before any occupied cell. Free means that there is no obstacle,
    not that there is a floor. Raises ValueError if the grid would be too large.
    """
    R_map_grid = _axes(config.up)
    points, positions = np.asarray(points, float) @ R_map_grid, T_map_cam[:, :3, 3] @ R_map_grid
    R_grid_cam = R_map_grid.T @ T_map_cam[:, :3, :3]
    resolution, corner = config.resolution, np.zeros(3)
    if not len(points):
        return Grid(np.full((0, 0), UNKNOWN, np.int8), resolution, _transform(R_map_grid, corner))
    everything = np.vstack([points[:, :2], positions[:, :2]]) / resolution
    lowest = np.floor(everything.min(axis=0))
    columns, rows = (int(n) for n in np.floor(everything.max(axis=0)) - lowest + 1)
    if rows * columns > LARGEST:
        raise ValueError(
            f"the occupancy grid would have {columns} x {rows} cells, at most {LARGEST} are allowed: "
            f"increase grid.resolution above {resolution} m"
        )
    corner[:2] = lowest * resolution
    points, positions = points - corner, positions - corner
    in_the_way = points[(points[:, 2] >= config.min_height) & (points[:, 2] <= config.max_height)]
    free = np.zeros((rows, columns), bool)
    row, column = _cells(free, in_the_way[:, 0], in_the_way[:, 1], resolution)
    occupied = (
        np.bincount(row * columns + column, minlength=rows * columns).reshape(rows, columns)
        >= FEWEST_POINTS
    )
    targets = _thinned(points, (resolution, resolution, LAYER))
    for position, R, camera in zip(positions, R_grid_cam, cameras):
        _carve(
            free, occupied, position, _in_view(targets, position, R, camera, reach), config, reach
        )
    cells = np.where(occupied, OCCUPIED, np.where(free, FREE, UNKNOWN)).astype(np.int8)
    return Grid(cells, resolution, _transform(R_map_grid, corner))


def _axes(up: str) -> np.ndarray:
    """Return the rotation R_map_grid (3, 3) whose z column is the map axis `up`: x, y, z, -x, -y
    or -z.
    """
    z = np.zeros(3)
    z[AXES[up[-1]]] = -1.0 if up[0] == "-" else 1.0
    x = np.array([0.0, 0.0, 1.0]) if abs(z[0]) else np.array([1.0, 0.0, 0.0])
    return np.stack([x, np.cross(z, x), z], axis=1)


def _transform(R_map_grid: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return T_map_grid (4, 4) from its rotation and the grid's corner."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R_map_grid, R_map_grid @ corner
    return T


def _thinned(points: np.ndarray, voxel: tuple[float, float, float]) -> np.ndarray:
    """Keep one point per voxel, ordered by x."""
    index = np.floor(points / voxel).astype(np.int64)
    index -= index.min(axis=0)  # heights may be above sea level, or along an axis of UTM
    _, first = np.unique(
        (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2], return_index=True
    )
    points = points[first]
    return points[np.argsort(points[:, 0])]


def _in_view(
    targets: np.ndarray, position: np.ndarray, R_grid_cam: np.ndarray, camera: Camera, reach: float
) -> np.ndarray:
    """Return those of the targets, ordered by x, that lie in the image and within `reach`."""
    targets = targets[
        slice(*np.searchsorted(targets[:, 0], [position[0] - reach, position[0] + reach]))
    ]
    offsets = targets - position
    near = np.hypot(offsets[:, 0], offsets[:, 1]) < reach
    seen = offsets[near] @ R_grid_cam
    u = camera.fx * seen[:, 0] + camera.cx * seen[:, 2]
    v = camera.fy * seen[:, 1] + camera.cy * seen[:, 2]
    inside = (
        (seen[:, 2] > 0.05)
        & (u >= 0)
        & (v >= 0)
        & (u <= camera.width * seen[:, 2])
        & (v <= camera.height * seen[:, 2])
    )
    visible: np.ndarray = targets[near][inside]
    return visible


def _carve(
    free: np.ndarray,
    occupied: np.ndarray,
    position: np.ndarray,
    targets: np.ndarray,
    config: GridConfig,
    reach: float,
) -> None:
    """Mark as free the cells crossed by the rays from `position` to `targets`."""
    offsets = targets - position
    distance = np.hypot(offsets[:, 0], offsets[:, 1])
    begin, end = _within_limits(position[2], targets[:, 2], config)
    useful = (end > begin) & (distance > 0)
    if not useful.any():
        return
    offsets, distance, begin, end = offsets[useful], distance[useful], begin[useful], end[useful]
    # One ray per direction, from the nearest begin to the farthest end; at full reach the rays are
    # one cell apart.
    directions = math.ceil(2 * math.pi * reach / config.resolution)
    direction = (
        (np.arctan2(offsets[:, 1], offsets[:, 0]) + math.pi) / (2 * math.pi) * directions
    ).astype(int) % directions
    first, last = np.full(directions, np.inf), np.zeros(directions)
    np.minimum.at(first, direction, begin * distance)
    np.maximum.at(last, direction, end * distance)
    seen = np.flatnonzero(last)
    angle = (seen + 0.5) / directions * 2 * math.pi - math.pi
    along = np.arange(0.0, last[seen].max() + config.resolution, config.resolution / 2)
    row, column = _cells(
        free,
        position[0] + np.cos(angle)[:, None] * along,
        position[1] + np.sin(angle)[:, None] * along,
        config.resolution,
    )
    stopped = occupied[row, column]
    # A step across a corner must not slip between two occupied cells that touch there.
    stopped[:, 1:] |= occupied[row[:, 1:], column[:, :-1]] & occupied[row[:, :-1], column[:, 1:]]
    open_ = (
        ~np.logical_or.accumulate(stopped, axis=1)
        & (along >= first[seen][:, None])
        & (along <= last[seen][:, None])
    )
    free[row[open_], column[open_]] = True


def _cells(
    grid: np.ndarray, x: np.ndarray, y: np.ndarray, resolution: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of positions in the grid frame, clamped to the grid."""
    rows, columns = grid.shape
    return (y / resolution).astype(int).clip(0, rows - 1), (x / resolution).astype(int).clip(
        0, columns - 1
    )


def _within_limits(
    height: float, targets: np.ndarray, config: GridConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return, per ray from `height` to the heights `targets` (M,), the fractions between which it
    runs within the height limits; end <= begin: nowhere.
    """
    climb = targets - height
    climb = np.where(np.abs(climb) < 1e-9, 1e-9, climb)
    crossings = np.sort(
        [(config.min_height - FLOOR - height) / climb, (config.max_height - height) / climb],
        axis=0,
    )
    return crossings[0].clip(0, 1), crossings[1].clip(0, 1)
