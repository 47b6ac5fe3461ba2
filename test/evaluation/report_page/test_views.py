"""The map's points as pictures: what is in front hides what is behind, and pixels are where they
should be.
"""

import numpy as np
import pytest

from vggt3_ros.evaluation.report_page.views import from_above, seen_from, spacing_of
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

RED, BLUE = (200, 20, 10), (10, 20, 200)
CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)


def grid(step, low, high):
    """Points (N, 2) of a square grid."""
    along = np.arange(low, high, step)
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)


def wall(z, half, color, step=0.02):
    flat = grid(step, -half, half)
    points = np.concatenate([flat, np.full((len(flat), 1), z)], axis=1)
    return points, np.tile(np.array(color, np.uint8), (len(points), 1))


def test_a_wall_in_front_hides_the_one_behind_without_holes():
    """Seen from 0: a small red wall at 1 m before a large blue one at 3 m."""
    (near, red), (far, blue) = wall(1.0, 0.3, RED), wall(3.0, 3.0, BLUE)
    for first in (True, False):
        points = np.concatenate([near, far] if first else [far, near])
        colors = np.concatenate([red, blue] if first else [blue, red])
        picture = seen_from(np.eye(4), CAMERA, points, colors, spacing_of(points))
        assert (picture[30:90, 50:110] == RED).all()
        assert (picture[5:15] == BLUE).all() and (picture[:, 5:20] == BLUE).all()


def test_a_coarse_wall_close_by_is_drawn_without_holes():
    points, colors = wall(0.4, 0.5, RED, step=0.05)
    picture = seen_from(np.eye(4), CAMERA, points, colors, spacing_of(points))
    assert (picture == RED).all()


def test_what_lies_behind_the_camera_is_not_seen():
    points, colors = wall(-1.0, 2.0, RED)
    picture = seen_from(np.eye(4), CAMERA, points, colors, 0.02)
    assert not (picture == RED).all(axis=2).any()


def looking_ahead(x, y, z):
    """A camera that looks along y of a map whose z is up."""
    rotation = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # columns: right, down, ahead
    return se3.from_rotation_translation(rotation, (x, y, z))


@pytest.fixture
def room():
    """A floor of 8 x 4 m with one red square, under a blue ceiling; cameras 1.5 m above it."""
    flat = grid(0.04, 0, 8)
    flat = flat[flat[:, 1] < 4]
    floor = np.concatenate([flat, np.zeros((len(flat), 1))], axis=1)
    ceiling = floor + (0, 0, 2.5)
    colors = np.full((2 * len(floor), 3), 90, np.uint8)
    colors[len(floor) :] = BLUE
    square = (np.abs(floor - (6.0, 1.0, 0.0)) < 0.3).all(axis=1)
    colors[: len(floor)][square] = RED
    cameras = np.array([looking_ahead(x, 2.0, 1.5) for x in np.linspace(1, 7, 9)])
    return np.concatenate([floor, ceiling]), colors, cameras


def test_from_above_the_ceiling_is_left_out_and_a_place_is_where_its_pixels_say(room):
    points, colors, cameras = room
    view = from_above(points, cameras)
    assert view.width > 1.5 * view.height  # the longer side lies to the right
    picture = view.drawn(points, colors, spacing_of(points))
    shown = picture[..., 3] > 0
    assert not (picture[..., :3][shown] == BLUE).all(axis=1).any()
    # of a scene that is many times as large, what is so little above is not the ceiling
    large = from_above(points, cameras, scale=10.0).drawn(points, colors, spacing_of(points))
    assert (large[..., :3][large[..., 3] > 0] == BLUE).all(axis=1).any()
    # the floor is drawn without holes, also at its edges
    low, high = view.pixels(np.array([[0.1, 0.1, 0], [7.8, 3.8, 0]])).astype(int)
    (left, right), (top, bottom) = sorted((low[0], high[0])), sorted((low[1], high[1]))
    assert shown[top:bottom, left:right].all()
    x, y = view.pixels(np.array([[6.0, 1.0, 0.0]]))[0].astype(int)
    assert (picture[y, x, :3] == RED).all()
    x, y = view.pixels(np.array([[6.0, 3.0, 0.0]]))[0].astype(int)
    assert (picture[y, x, :3] == 90).all()


def test_a_view_shows_the_whole_path_even_of_a_map_without_points(room):
    _, _, cameras = room
    view = from_above(np.zeros((0, 3)), cameras)
    pixels = view.pixels(cameras[:, :3, 3])
    assert (pixels > 0).all() and (pixels < (view.width, view.height)).all()
    assert np.ptp(pixels[:, 0]) > 0.8 * view.width


def test_distances_in_the_picture_are_distances_in_the_map(room):
    points, _, cameras = room
    view = from_above(points, cameras)
    a, b = view.pixels(np.array([[1.0, 1.0, 0.0], [4.0, 3.0, 2.0]]))
    assert np.linalg.norm(a - b) * view.pixel == pytest.approx(np.hypot(3, 2), rel=1e-6)
