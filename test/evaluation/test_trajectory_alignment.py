"""The alignment of two trajectories: exact where it can be, and by what determines it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vggt3_ros.evaluation.trajectory_alignment import ORIENTATIONS, POSITIONS, aligned
from vggt3_ros.geometry import se3


def path(seed, count=20, spread=(3.0, 2.0, 1.0)):
    """(N, 4, 4) random poses whose positions spread by so much along x, y, z."""
    rng = np.random.default_rng(seed)
    positions = rng.standard_normal((count, 3)) * spread
    return se3.from_rotation_translation(Rotation.random(count, rng=rng).as_matrix(), positions)


def moved(poses, rotation, translation, scale=1.0):
    """The same path in another frame and scale: x_truth = scale * rotation @ x + translation."""
    out = se3.from_rotation_translation(rotation, translation) @ poses
    out[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + translation
    return out


@given(seed=st.integers(0, 50), scale=st.floats(0.2, 5.0))
def test_a_path_in_another_frame_is_brought_back_exactly(seed, scale):
    rng = np.random.default_rng(seed)
    rotation, translation = Rotation.random(rng=rng).as_matrix(), rng.normal(0, 10, 3)
    estimate = path(seed)
    found = aligned(estimate, moved(estimate, rotation, translation, scale), correct_scale=True)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-7)
    np.testing.assert_allclose(found.translation, translation, atol=1e-6)
    assert found.scale == pytest.approx(scale, rel=1e-9)


def test_a_mirrored_path_is_not_mirrored_back():
    estimate = path(3)
    truth = estimate.copy()
    truth[:, 0, 3] *= -1
    assert np.linalg.det(aligned(estimate, truth).rotation) == pytest.approx(1.0)


def test_the_scale_stays_where_it_is_not_asked_for_or_not_seen():
    estimate = path(1)
    truth = moved(estimate, np.eye(3), np.zeros(3), 2.0)
    assert aligned(estimate, truth).scale == 1.0
    standing = path(2, spread=(0, 0, 0))
    assert aligned(standing, standing, correct_scale=True).scale == 1.0


@pytest.mark.parametrize(
    "spread, by",
    [
        ((3, 2, 1), POSITIONS),
        ((3, 2, 0), POSITIONS),
        ((3, 0, 0), ORIENTATIONS),
        ((0, 0, 0), ORIENTATIONS),
    ],
    ids=["volume", "plane", "line", "point"],
)
def test_orientations_take_part_where_positions_leave_a_turn_open(spread, by):
    estimate = path(5, spread=spread)
    rng = np.random.default_rng(6)
    rotation = Rotation.from_rotvec([0.3, -0.7, 1.1]).as_matrix()
    truth = moved(estimate, rotation, np.array([1.0, 2.0, 3.0]))
    truth[:, :3, 3] += 1e-3 * rng.standard_normal((20, 3))
    truth[:, :3, :3] @= Rotation.from_rotvec(0.01 * rng.standard_normal((20, 3))).as_matrix()
    found = aligned(estimate, truth)
    assert found.by == by
    off = Rotation.from_matrix(found.rotation.T @ rotation).magnitude()
    assert off < 0.02  # a few times 0.01 / sqrt(20)


def test_bad_orientations_do_not_spoil_good_positions():
    estimate = path(7)
    truth = moved(estimate, np.eye(3), np.zeros(3))
    truth[:, :3, :3] = path(8)[:, :3, :3]
    found = aligned(estimate, truth)
    assert found.by == POSITIONS
    np.testing.assert_allclose(found.rotation, np.eye(3), atol=1e-9)
