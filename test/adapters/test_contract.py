"""A camera from points or rays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.adapters.contract import intrinsics_of

HEIGHT, WIDTH = 24, 32


def rays(fx, fy, cx, cy):
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    return np.stack(((u - cx) / fx, (v - cy) / fy, np.ones_like(u)), axis=-1)


@given(
    fx=st.floats(10, 100),
    fy=st.floats(10, 100),
    cx=st.floats(0, WIDTH),
    cy=st.floats(0, HEIGHT),
    seed=st.integers(0, 9),
)
def test_a_camera_is_found_from_points_at_any_depth_and_from_unit_rays(fx, fy, cx, cy, seed):
    expected = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    directions = rays(fx, fy, cx, cy)
    depth = np.random.default_rng(seed).uniform(0.5, 20, (HEIGHT, WIDTH, 1))
    np.testing.assert_allclose(intrinsics_of(directions * depth), expected, atol=1e-6)
    unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    np.testing.assert_allclose(intrinsics_of(unit), expected, atol=1e-6)


def test_points_that_are_unknown_or_behind_the_camera_do_not_count():
    points = rays(30, 40, 15, 11)
    points[:10] = np.nan
    points[10:14] *= -1
    np.testing.assert_allclose(
        intrinsics_of(points), [[30, 0, 15], [0, 40, 11], [0, 0, 1]], atol=1e-9
    )


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 5, 3), np.nan),
        np.ones((5, 5, 3)),
        rays(30, 40, 15, 11)[:3, :5],
        np.zeros((9, 9, 3)),
    ],
    ids=["nan", "one ray", "15 pixels", "no depth"],
)
def test_there_is_no_camera_without_rays_enough(points):
    assert intrinsics_of(points) is None
