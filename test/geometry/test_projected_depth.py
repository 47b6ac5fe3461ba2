"""Depth images of a point cloud: the nearest point wins, and gaps do not show what lies behind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.geometry import projected_depth as module
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.projected_depth import CELL, projected_depth

CAMERA = Camera(98, 66, 80.0, 80.0, 48.5, 32.5)


def wall(depth, step=1, camera=CAMERA):
    """Points of a wall at `depth` metres that fill the camera's image."""
    v, u = np.mgrid[0 : camera.height : step, 0 : camera.width : step]
    pixels = np.stack([u, v], axis=-1).reshape(-1, 2)
    return camera.unproject(pixels, np.full(len(pixels), float(depth)))


@given(st.floats(0.5, 20), st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_a_wall_has_its_depth_from_wherever_it_is_seen(depth, twist):
    T_world_cam = se3.exp(twist)
    found = projected_depth(se3.transform_points(T_world_cam, wall(depth)), T_world_cam, CAMERA)
    assert found.shape == (66, 98) and found.dtype == np.float32
    np.testing.assert_allclose(found, depth, rtol=1e-5)


def test_the_nearest_point_of_a_cell_wins():
    both = np.concatenate([wall(3.0), wall(2.9), wall(5.0)])
    np.testing.assert_allclose(projected_depth(both, np.eye(4), CAMERA), 2.9, rtol=1e-6)


def test_what_shows_through_gaps_of_a_nearer_surface_is_left_out():
    sparse = wall(2.0)
    cells = np.floor((CAMERA.project(sparse) + 0.5) / CELL).astype(int)
    sparse = sparse[
        (cells % 3 != 0).any(axis=1)
    ]  # every third cell of every third row is empty, corners too
    found = projected_depth(np.concatenate([sparse, wall(6.0)]), np.eye(4), CAMERA)
    assert set(np.unique(found.round(3))) == {0.0, 2.0}
    assert 0.05 < (found == 0).mean() < 0.2


def test_a_farther_surface_beside_a_nearer_one_stays():
    points = np.concatenate([wall(2.0)[CAMERA.project(wall(2.0))[:, 0] < 48], wall(6.0)])
    found = projected_depth(points, np.eye(4), CAMERA)
    np.testing.assert_allclose(found[:, :44], 2.0, rtol=1e-6)
    np.testing.assert_allclose(found[:, 56:], 6.0, rtol=1e-6)


def test_points_behind_beside_and_not_finite_are_ignored():
    nowhere = np.array(
        [[0, 0, -2.0], [0, 0, 0], [50, 0, 2], [0, -50, 2], [np.nan, 0, 2], [0, 0, np.inf]]
    )
    assert not projected_depth(nowhere, np.eye(4), CAMERA).any()
    assert projected_depth(np.zeros((0, 3)), np.eye(4), CAMERA).shape == (66, 98)


def test_many_points_in_chunks_are_the_same(monkeypatch):
    points = np.random.default_rng(0).uniform((-2, -2, 1), (2, 2, 6), (5000, 3))
    whole = projected_depth(points, np.eye(4), CAMERA)
    monkeypatch.setattr(module, "CHUNK", 999)
    np.testing.assert_array_equal(projected_depth(points, np.eye(4), CAMERA), whole)
    assert (whole > 0).mean() > 0.3


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 3)])
def test_images_that_are_no_whole_number_of_cells(size):
    camera = Camera(*size, 3.0, 3.0, (size[0] - 1) / 2, (size[1] - 1) / 2)
    np.testing.assert_allclose(
        projected_depth(wall(2.0, camera=camera), np.eye(4), camera), 2.0, rtol=1e-6
    )
