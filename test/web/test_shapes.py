"""Lines and sizes of what is drawn."""

from dataclasses import replace

import numpy as np
import snapshots

from vggt3_ros.web import shapes
from vggt3_ros.web.attachment import reach


def test_the_path_joins_neighbours_of_a_session_alone():
    snapshot = replace(snapshots.make(5), sessions=np.array([0, 0, 1, 1, 1]))
    position = snapshot.T_map_cam[:, :3, 3]
    lines = shapes.path_segments(snapshot, position)
    np.testing.assert_allclose(lines, position[[[0, 1], [2, 3], [3, 4]]], rtol=1e-6)
    assert shapes.path_segments(snapshots.make(1), position[:1]).shape == (1, 2, 3)


def test_loops_of_keyframes_that_the_map_lacks_are_left_out():
    snapshot = snapshots.make(5)  # ids 0, 10, 20, 30, 40
    position = snapshot.T_map_cam[:, :3, 3]
    known = replace(snapshot.loops[0], source_id=40, target_id=10)
    lines = shapes.pair_segments(snapshot, position, (*snapshot.loops, known))
    np.testing.assert_allclose(lines, position[[[4, 1]]], rtol=1e-6)
    assert shapes.pair_segments(snapshot, position, ()).shape == (0, 2, 3)


def test_long_walks_share_clouds_of_neighbours():
    assert shapes.anchors(200).tolist() == list(range(200))
    rows = shapes.anchors(5000)
    assert len(set(rows)) <= shapes.MOST_CLOUDS and (np.diff(rows) >= 0).all()
    assert np.abs(rows - np.arange(5000)).max() <= 10


def test_sizes_follow_the_scene():
    grid = np.stack(np.meshgrid(*[np.arange(20.0)] * 3), axis=-1).reshape(-1, 3)
    for scale in (0.01, 1.0, 30.0):
        assert 1.0 < shapes.spacing(scale * grid) / scale < 2.0
        ahead = np.eye(4)[None] * 1.0
        assert reach(scale * grid, ahead) / scale == reach(grid, ahead)
    assert shapes.spacing(grid[:1]) > 0 and reach(grid[:0], np.eye(4)[None]) == 1.0
