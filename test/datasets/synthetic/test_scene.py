"""Rays against patches: what is met, where on it, and what lies between."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic.patches import box, disc, quad
from vggt3_ros.datasets.synthetic.scene import Scene

GREY = np.full((8, 8, 3), 9, np.uint8)
# two walls that face -y: 2 m wide and high, at y = 2 and y = 5
WALLS = [quad((-1, y, 1), (2, 0, 0), (0, 0, -2), GREY) for y in (2.0, 5.0)]


def test_a_ray_meets_the_first_surface_at_its_place_on_the_patch():
    directions = np.array([[0, 1, 0], [-0.25, 1, 0.25], [0, 2, 0], [1, 1, 0], [0, -1, 0]], float)
    hits = Scene(WALLS).cast(np.zeros(3), directions)
    assert hits.patch.tolist() == [0, 0, 0, -1, -1]
    np.testing.assert_allclose(hits.distance[:3], [2, 2, 1])  # in units of the direction
    assert np.isinf(hits.distance[3:]).all()
    np.testing.assert_allclose(hits.uv[:3], [[0.5, 0.5], [0.25, 0.25], [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(np.abs(hits.normal[:3]), [[0, 1, 0]] * 3, atol=1e-6)


def test_rays_may_have_origins_of_their_own():
    origins = np.array([[0, 3, 0], [0.5, 0, 0.5]], float)
    hits = Scene(WALLS).cast(origins, np.array([[0, 1, 0]] * 2, float))
    assert hits.patch.tolist() == [1, 0]
    np.testing.assert_allclose(hits.distance, [2, 2], rtol=1e-6)


def test_places_on_a_grid_of_many_cells_are_those_of_the_whole_patch():
    top = disc(1.0, 2.0, GREY, cells=6)
    points = top.points[1:-1, 1:-1].reshape(-1, 3)
    hits = Scene([top]).cast(points + (0, 0, 1), np.tile([0.0, 0, -1], (len(points), 1)))
    rows, columns = np.mgrid[1:6, 1:6] / 6
    np.testing.assert_allclose(hits.uv[:, 0], columns.ravel(), atol=1e-5)
    np.testing.assert_allclose(hits.uv[:, 1], rows.ravel(), atol=1e-5)


def test_a_surface_between_two_points_blocks_them_and_one_behind_does_not():
    scene = Scene(WALLS)
    here, near, far, aside = (
        np.array(p, float) for p in ((0, 0, 0), (0, 1.9, 0), (0, 3, 0), (3, 3, 0))
    )
    blocked = scene.blocked(np.array([here] * 3), np.array([near, far, aside]))
    assert blocked.tolist() == [False, True, False]
    # a target on the surface itself is not hidden by it
    assert not scene.blocked(here[None], np.array([[0.2, 2.0, 0.3]]))[0]


def test_distance_is_to_the_nearest_point_of_any_surface():
    scene = Scene(WALLS + box((4, 0, 0), (1, 1, 1), GREY, skip=""))
    points = np.array([[0, 1.5, 0], [0, 3.4, 0], [2, 2, 0], [4, 0, 0.5], [4, 0, 3]], float)
    np.testing.assert_allclose(scene.distance(points), [0.5, 1.4, 1.0, 0.5, 2.0], atol=1e-6)


def test_a_scene_needs_a_patch():
    with pytest.raises(ValueError, match="at least one patch"):
        Scene([])
