"""Baked light: by the laws of optics, and without dark spots behind furniture."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic.lighting import Lamp, _cosine_direction, _fill, bake
from vggt3_ros.datasets.synthetic.patches import box, quad
from vggt3_ros.datasets.synthetic.scene import Scene

BLACK = np.zeros((8, 8, 3), np.uint8)
WHITE = np.full((8, 8, 3), 255, np.uint8)


def lamp(height=2.0, side=0.2, radiance=50.0, **options):
    return Lamp(
        np.array([-side / 2, -side / 2, height]),
        np.array([side, 0, 0]),
        np.array([0, side, 0]),
        np.array([0, 0, -1.0]),
        np.full(3, radiance),
        **options,
    )


def floor(texture=BLACK, size=4.0):
    return quad((-size / 2, size / 2, 0), (size, 0, 0), (0, -size, 0), texture)


def lit(patches, lamps):
    return bake(Scene(patches), patches, lamps, np.random.default_rng(0))


def test_direct_light_is_that_of_a_small_lambertian_lamp():
    """E / pi of a lamp of radiance L and area A straight above at height h: L A / (pi h^2), and by
    cos^4 less aside.
    """
    (grid,) = lit([floor()], [lamp()])
    middle = len(grid) // 2
    straight = 50.0 * 0.2**2 / np.pi / 2.0**2
    assert grid[middle, middle, 0] == pytest.approx(straight, rel=0.03)
    aside = grid[middle, -5, 0]
    x = 2.0 - 4 * 4.0 / (grid.shape[1] - 1)
    cosine = 2.0 / np.hypot(2.0, x)
    assert aside == pytest.approx(straight * cosine**4, rel=0.05)


def test_light_is_of_the_colour_of_the_lamp_and_ends_at_its_reach():
    red = lamp()
    red.color[:] = (30.0, 0.0, 3.0)
    (grid,) = lit([floor()], [red])
    assert grid[..., 1].max() == 0
    np.testing.assert_allclose(grid[..., 2], 0.1 * grid[..., 0], rtol=1e-4)
    (near,) = lit([floor()], [lamp(reach=2.2)])
    assert near[0, 0, 0] == 0 and near[len(near) // 2, len(near) // 2, 0] > 0


def test_a_plate_casts_a_shadow_under_it():
    plate = quad((-0.4, 0.4, 1.0), (0.8, 0, 0), (0, -0.8, 0), BLACK)
    shaded, open_ = (lit(patches, [lamp()])[0] for patches in ([floor(), plate], [floor()]))
    middle = len(shaded) // 2
    assert shaded[middle, middle, 0] < 0.05 * open_[middle, middle, 0]
    assert shaded[0, 0, 0] == pytest.approx(open_[0, 0, 0], rel=0.1)


def test_white_walls_throw_light_back():
    """A plate that faces away from the lamp is lit by the floor alone, and by a black one not."""
    under = quad((-0.5, -0.5, 1.0), (1, 0, 0), (0, 1, 0), BLACK)  # faces down
    white, black = (lit([floor(texture), under], [lamp()])[1].mean() for texture in (WHITE, BLACK))
    assert white > 0.02 and black < 0.01 * white


def test_what_shines_has_its_own_brightness():
    shining = quad((-1, 1, 1.0), (2, 0, 0), (0, -2, 0), WHITE, emission=1.4)
    grids = lit([floor(WHITE), shining], [])
    np.testing.assert_allclose(grids[1], 1.4)


def test_points_inside_furniture_take_the_light_of_their_neighbours():
    solid = box((0.0, 0.0, -0.01), (1.0, 1.0, 1.0), WHITE)
    (grid, *_) = lit([floor(WHITE), *solid], [lamp(height=2.4)])
    middle = len(grid) // 2
    around = grid[middle, middle + 8, 0]
    assert grid[middle, middle, 0] > 0.3 * around > 0


def test_filling_spreads_known_values_ring_by_ring():
    light = np.zeros((5, 5, 3), np.float32)
    light[:, 0] = 2.0
    hidden = np.ones((5, 5), bool)
    hidden[:, 0] = False
    np.testing.assert_allclose(_fill(light, hidden), 2.0)
    np.testing.assert_array_equal(_fill(light, np.zeros((5, 5), bool)), light)
    np.testing.assert_array_equal(_fill(light, np.ones((5, 5), bool)), light)


def test_directions_are_spread_by_the_cosine():
    """The mean of a cosine-weighted half space is 2/3 along the normal."""
    normals = np.array([[0, 0, 1.0], [0, 0.6, 0.8], [1.0, 0, 0]])
    rotation = np.array([0.1, 0.5, 0.9])
    directions = np.array([_cosine_direction(normals, k, 64, rotation) for k in range(64)])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(directions.mean(axis=0), normals * 2 / 3, atol=0.03)
