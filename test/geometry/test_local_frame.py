"""Local origins: none for data near the map's own origin, and kept as long as it is near enough."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.geometry.local_frame import origin_near, shifted, too_far

PLACES = st.lists(st.floats(-1e7, 1e7), min_size=3, max_size=3)


@given(PLACES)
def test_offsets_from_the_origin_fit_float32(place):
    origin, place = origin_near(place), np.array(place)
    left = place - origin
    assert np.abs(left).max() <= 500 and np.abs(left.astype(np.float32) - left).max() < 1e-4
    assert not (np.abs(place).max() < 500 and origin.any())


def test_an_origin_is_kept_while_the_place_moves_around_it():
    held = origin_near([4_600_499.0, 0, 0])
    assert origin_near([4_600_501.0, 3.0, 0], held) is held
    assert origin_near([4_602_000.0, 0, 0], held) is not held


def test_shifting_leaves_the_rotation_and_the_original():
    poses = np.tile(np.eye(4), (2, 1, 1))
    np.testing.assert_array_equal(shifted(poses, [1.0, 2, 3])[:, :3, 3], [[1, 2, 3]] * 2)
    assert not poses[:, :3, 3].any()
    assert too_far([[0, 0, 0], [0, 1e6, 0]], np.zeros(3), 0.02).tolist() == [False, True]
