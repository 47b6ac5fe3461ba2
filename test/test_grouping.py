"""Grouping keyframes by the surfaces they see."""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.memory.grouping import EDGE_M, choose, moved_cells, surface_cells

TURNED = se3.exp([10.0, -3.0, 0.7, 0.2, -0.4, 1.1])


def block(first, last):
    """Codes of a row of cells along x, some on either side of the origin."""
    points = np.stack([np.arange(first, last), np.zeros(last - first), np.full(last - first, -5)], axis=-1)
    return np.sort(np.array([surface_code(p) for p in points]))


def surface_code(cell):
    x, y, z = (int(v) + 2**20 for v in cell)
    return (x << 42) | (y << 21) | z


def test_a_keyframe_sees_the_cells_its_depth_lies_in(frames, rendered):
    frame, pose = frames[3], rendered.T_world_cam[3]
    cells = surface_cells(frame, pose, 6.0)
    assert len(np.unique(cells)) == len(cells) and (np.diff(cells) > 0).all()
    depth = frame.cell_depth
    y, x = np.argwhere((depth > 0) & (depth <= 6.0)).T
    points = se3.transform_points(pose, frame.camera.unproject(frame.features.cell_centres()[y, x], depth[y, x]))
    assert {surface_code(np.floor(p / EDGE_M)) for p in points} == set(cells.tolist())
    near = surface_cells(frame, pose, 1.5)
    assert 0 < len(near) < len(cells) and set(near.tolist()) <= set(cells.tolist())


def test_cells_move_with_their_frame(frames, rendered):
    frame, pose = frames[3], rendered.T_world_cam[3]
    cells, there = surface_cells(frame, pose, 6.0), surface_cells(frame, TURNED @ pose, 6.0)
    moved = moved_cells(cells, TURNED)
    assert np.isin(moved, there).mean() > 0.5  # a cell's centre may fall into the neighbour of what was seen in it
    np.testing.assert_array_equal(moved_cells(cells, np.eye(4)), cells)
    np.testing.assert_array_equal(moved_cells(moved_cells(cells, se3.exp([0.5, -1.25, 0.25, 0, 0, 0])), se3.exp([-0.5, 1.25, -0.25, 0, 0, 0])),
                                  cells)


def test_a_keyframe_joins_where_most_of_what_it_sees_is_known():
    groups = [(block(-40, 0), 5), (block(-10, 60), 9)]
    assert choose(block(-30, -6), groups, 100, 1000) == 0
    assert choose(block(-12, 20), groups, 100, 1000) == 1
    assert choose(block(200, 220), groups, 100, 1000) is None
    assert choose(block(58, 90), groups, 100, 1000) is None  # two cells are not enough


def test_a_full_group_takes_no_more_and_one_without_room_nothing_that_needs_it():
    groups = [(block(0, 50), 10)]
    assert choose(block(20, 60), groups, 10, 1000) is None
    assert choose(block(20, 60), groups, 11, 1000) == 0
    assert choose(block(20, 60), groups, 11, 59) is None
    assert choose(block(20, 50), groups, 11, 50) == 0  # nothing of it is new


def test_what_sees_nothing_joins_nothing():
    assert choose(np.zeros(0, np.int64), [(block(0, 5), 1)], 10, 10) is None
