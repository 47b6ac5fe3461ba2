"""The map as a floor plan: occupied where a surface stands in the way, free where keyframes looked
through, unknown elsewhere.
"""

import math
from dataclasses import dataclass

import numpy as np

FREE, OCCUPIED, UNKNOWN = 0, 100, -1
FEWEST_POINTS = 3  # in a cell; fewer are noise
FLOOR = 0.3  # metres below the lowest height that a ray may still reach: the floor lies there
LAYER = 0.2  # metres, height of the voxels the points are thinned to: a ray ends in each
LARGEST = 16_000_000  # cells
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True, eq=False)
class Grid:
    """cells (rows, columns) int8: FREE, OCCUPIED or UNKNOWN; columns go along x, rows along y of
    the frame whose origin is the outer corner of cell (0, 0) and whose z points up. T_map_grid (4,
    4): that frame in the map. resolution: metres a cell.
    """

    cells: np.ndarray
    resolution: float
    T_map_grid: np.ndarray


def occupancy(points, T_map_cam, cameras, config, reach):
    """points (M, 3) metres, keyframe poses (N, 4, 4) and their N Cameras -> Grid. config:
    GridConfig; reach: metres a keyframe sees.

    A cell is occupied by points between the height limits. It is free where a ray from a keyframe
    to a point in its view crosses it between these limits, or just below, before any occupied
    cell: nothing stands there, which is not to say that there is a floor. ValueError when the grid
    would be too large.
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
            f"make grid.resolution coarser than {resolution} m"
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


def _axes(up):
    """(3, 3) rotation R_map_grid whose z column is the axis `up` of the map: x y z, or -x -y
    -z.
    """
    z = np.zeros(3)
    z[AXES[up[-1]]] = -1.0 if up[0] == "-" else 1.0
    x = np.array([0.0, 0.0, 1.0]) if abs(z[0]) else np.array([1.0, 0.0, 0.0])
    return np.stack([x, np.cross(z, x), z], axis=1)


def _transform(R_map_grid, corner):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R_map_grid, R_map_grid @ corner
    return T


def _thinned(points, voxel):
    """One of the points in each voxel, ordered by x."""
    index = np.floor(points / voxel).astype(np.int64)
    index -= index.min(axis=0)  # heights may be those above the sea, or along an axis of UTM
    _, first = np.unique(
        (index[:, 0] << 42) | (index[:, 1] << 21) | index[:, 2], return_index=True
    )
    points = points[first]
    return points[np.argsort(points[:, 0])]


def _in_view(targets, position, R_grid_cam, camera, reach):
    """Those targets, ordered by x, that lie in the image and within `reach`."""
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
    return targets[near][inside]


def _carve(free, occupied, position, targets, config, reach):
    """Mark what the rays from `position` to `targets` cross."""
    offsets = targets - position
    distance = np.hypot(offsets[:, 0], offsets[:, 1])
    begin, end = _within_limits(position[2], targets[:, 2], config)
    useful = (end > begin) & (distance > 0)
    if not useful.any():
        return
    offsets, distance, begin, end = offsets[useful], distance[useful], begin[useful], end[useful]
    # One ray for each direction, from the nearest begin to the farthest end; at full reach they
    # are a cell apart.
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


def _cells(grid, x, y, resolution):
    """Rows and columns of places in the grid's frame; those beyond its border count to the
    border.
    """
    rows, columns = grid.shape
    return (y / resolution).astype(int).clip(0, rows - 1), (x / resolution).astype(int).clip(
        0, columns - 1
    )


def _within_limits(height, targets, config):
    """Shares of the rays from `height` to the heights `targets` (M,) between which they run within
    the limits; end <= begin: nowhere.
    """
    climb = targets - height
    climb = np.where(np.abs(climb) < 1e-9, 1e-9, climb)
    crossings = np.sort(
        [(config.min_height - FLOOR - height) / climb, (config.max_height - height) / climb],
        axis=0,
    )
    return crossings[0].clip(0, 1), crossings[1].clip(0, 1)
