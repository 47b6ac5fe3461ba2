"""The occupancy grid of a box-shaped room with a table, a lamp and a doorstep, seen from its
middle.
"""

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.ros.node_config import GridConfig
from vggt3_ros.surface import grid
from vggt3_ros.surface.grid import FREE, OCCUPIED, UNKNOWN, occupancy

CAMERA = Camera(64, 48, 40.0, 40.0, 32.0, 24.0)  # 77 x 62 degrees
CONFIG = GridConfig(resolution=0.05, min_height=0.1, max_height=1.8)


def box(low, high, step=0.02):
    """Points on the surface of an axis-aligned box."""
    low, high = np.array(low, float), np.array(high, float)
    sides = []
    for axis in range(3):
        a, b = (i for i in range(3) if i != axis)
        u, v = np.meshgrid(np.arange(low[a], high[a], step), np.arange(low[b], high[b], step))
        for level in (low[axis], high[axis]):
            side = np.empty((u.size, 3))
            side[:, axis], side[:, a], side[:, b] = level, u.ravel(), v.ravel()
            sides.append(side)
    return np.vstack(sides)


ROOM = np.vstack(
    [
        box((-2.01, -1.51, 0), (2.01, 1.51, 2.5)),  # floor, walls and ceiling
        box((1.02, -0.42, 0), (1.42, 0.42, 0.7)),  # table
        box((-1.2, -0.3, 2.1), (-0.8, 0.3, 2.3)),  # lamp
        box((-1.5, 0.8, 0), (-1.0, 1.2, 0.05)),
    ]
)  # doorstep


def looking(yaw, x=0.0, y=0.0, height=1.2):
    """T_map_cam of a level camera."""
    forward, down = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([0, 0, -1.0])
    return se3.from_rotation_translation(
        np.stack([np.cross(down, forward), down, forward], axis=1), np.array([x, y, height])
    )


ALL_AROUND = np.array([looking(yaw) for yaw in np.arange(0, 2 * np.pi, 0.5)])


def make(poses=ALL_AROUND, config=CONFIG, points=ROOM, reach=5.0):
    return occupancy(points, poses, [CAMERA] * len(poses), config, reach)


def test_in_coordinates_of_a_country_it_is_the_same_plan_there():
    """UTM, 500 m above the sea."""
    offset = np.array([500_000.0, 4_600_000.0, 500.0])
    there = make(
        shifted(ALL_AROUND, offset),
        replace(CONFIG, min_height=500.1, max_height=501.8),
        ROOM + offset,
    )
    here = make()
    rows, columns = np.minimum(here.cells.shape, there.cells.shape)
    np.testing.assert_allclose(
        there.T_map_grid[:2, 3] - offset[:2], here.T_map_grid[:2, 3], atol=CONFIG.resolution
    )
    # what lies on a border may fall to either side
    assert np.mean(there.cells[:rows, :columns] == here.cells[:rows, :columns]) > 0.97


def at(plan, x, y):
    """The value of the cell at map x, y."""
    column, row = ((np.array([x, y]) - plan.T_map_grid[:2, 3]) / plan.resolution).astype(int)
    return plan.cells[row, column]


def test_walls_and_table_are_occupied_lamp_and_doorstep_are_not_and_the_rest_of_the_room_is_free():
    plan = make()
    assert plan.cells.dtype == np.int8 and set(np.unique(plan.cells)) <= {FREE, OCCUPIED, UNKNOWN}
    for x in np.arange(-1.9, 1.9, 0.1):
        assert at(plan, x, -1.51) == OCCUPIED and at(plan, x, 1.51) == OCCUPIED
    assert at(plan, 1.02, 0.0) == OCCUPIED and at(plan, 1.2, 0.42) == OCCUPIED
    assert (
        at(plan, -1.0, 0.0) == FREE and at(plan, -1.2, 1.0) == FREE and at(plan, 0.0, 0.0) == FREE
    )
    inside = plan.cells[5:-5, 5:-5]
    assert (inside == FREE).mean() > 0.8


def test_what_lies_behind_an_obstacle_or_was_not_looked_at_is_unknown():
    plan = make()
    assert at(plan, 1.7, 0.0) == UNKNOWN  # the floor in the table's shadow
    forward = make(poses=np.array([looking(0.0)]))
    assert (
        at(forward, 0.6, 0.0) == FREE
        and at(forward, -0.5, 0.0) == UNKNOWN
        and at(forward, 0.1, 1.0) == UNKNOWN
    )
    second_room = np.vstack([ROOM, ROOM + [4.1, 0, 0]])
    assert not (make(points=second_room).cells[:, 90:] == FREE).any()  # no ray passes the wall
    short = make(reach=1.8)
    assert at(short, 0.0, 0.8) == FREE and at(short, -1.6, 0.0) == UNKNOWN


def test_the_height_limits_decide_what_is_an_obstacle():
    assert at(make(config=replace(CONFIG, max_height=2.2)), -1.0, 0.0) == OCCUPIED  # the lamp
    assert at(make(config=replace(CONFIG, min_height=0.02)), -1.2, 1.0) == OCCUPIED  # the doorstep
    low = make(config=replace(CONFIG, min_height=0.8, max_height=1.0))
    assert at(low, 1.02, 0.0) != OCCUPIED and at(low, -2.01, 0.0) == OCCUPIED


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
def test_any_axis_may_point_up(up):
    R = grid._axes(up)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0 and R[:, 2] @ np.eye(3)["xyz".index(up[-1])] == (
        -1 if up[0] == "-" else 1
    )
    turned = np.eye(4)
    turned[:3, :3] = R
    reference, plan = (
        make(),
        make(points=ROOM @ R.T, poses=turned @ ALL_AROUND, config=replace(CONFIG, up=up)),
    )
    assert (
        plan.cells.shape == reference.cells.shape and (plan.cells == reference.cells).mean() > 0.99
    )
    np.testing.assert_allclose(plan.T_map_grid, turned @ reference.T_map_grid, atol=1e-9)


def test_an_empty_map_makes_an_empty_grid_and_an_endless_one_is_refused():
    assert make(points=np.zeros((0, 3))).cells.size == 0
    with pytest.raises(ValueError, match="increase grid.resolution"):
        make(points=np.vstack([ROOM, [[1e5, 1e5, 0]]]))
    with pytest.raises(ValueError, match="min_height"):
        GridConfig(min_height=2.0)
