"""Rigid transforms: round trips over all of SE(3), and refusal of anything else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3

metres = arrays(float, 3, elements=st.floats(-1e3, 1e3))
axis = (
    arrays(float, 3, elements=st.floats(-1, 1))
    .filter(lambda v: np.linalg.norm(v) > 1e-3)
    .map(lambda v: v / np.linalg.norm(v))
)
twists = st.builds(
    lambda t, a, angle: np.concatenate([t, a * angle]), metres, axis, st.floats(0, np.pi - 1e-4)
)
points = arrays(float, (5, 3), elements=st.floats(-100, 100))


@given(twists)
def test_log_undoes_exp(twist):
    np.testing.assert_allclose(se3.log(se3.exp(twist)), twist, atol=1e-8)


@given(twists)
def test_quaternion_round_trip_and_sign(twist):
    transform = se3.exp(twist)
    translation, quaternion = se3.to_quaternion(transform)
    assert quaternion[3] >= 0
    np.testing.assert_allclose(se3.from_quaternion(translation, quaternion), transform, atol=1e-9)
    np.testing.assert_allclose(se3.from_quaternion(translation, -quaternion), transform, atol=1e-9)


@given(twists, twists, points)
def test_composition_and_inverse_act_on_points(first, second, p):
    T_a_b, T_b_c = se3.exp(first), se3.exp(second)
    through = se3.transform_points(T_a_b, se3.transform_points(T_b_c, p))
    np.testing.assert_allclose(se3.transform_points(T_a_b @ T_b_c, p), through, atol=1e-8)
    np.testing.assert_allclose(
        se3.transform_points(se3.inverse(T_a_b @ T_b_c), through), p, atol=1e-8
    )


@given(axis, st.floats(0, np.pi))
def test_rotation_angle(a, angle):
    assert se3.rotation_angle(se3.exp(np.concatenate([np.zeros(3), a * angle]))) == pytest.approx(
        angle, abs=1e-6
    )


def test_stacks_of_transforms_are_treated_one_by_one():
    twist = np.random.default_rng(0).normal(size=(4, 3, 6))
    stack = se3.exp(twist)
    assert stack.shape == (4, 3, 4, 4)
    for function in (
        se3.inverse,
        se3.log,
        se3.rotation_angle,
        se3.orthonormalize,
        lambda T: se3.to_quaternion(T)[1],
    ):
        whole = function(stack)
        for i in np.ndindex(4, 3):
            np.testing.assert_allclose(whole[i], function(stack[i]), atol=1e-12)


def test_quaternions_are_x_y_z_w():
    quarter_turn = se3.from_quaternion([1, 2, 3], [0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(
        se3.transform_points(quarter_turn, [1.0, 0, 0]), [1, 3, 3], atol=1e-12
    )


@pytest.mark.parametrize(
    "quaternion", [(0, 0, 0, 0), (0, 0, 0, 2), (1, 1, 1, 1), (np.nan, 0, 0, 1)]
)
def test_a_quaternion_without_unit_length_is_refused(quaternion):
    with pytest.raises(ValueError, match="quaternion must have unit length"):
        se3.from_quaternion([0, 0, 0], quaternion)


@given(twists, arrays(float, (3, 3), elements=st.floats(-0.05, 0.05)))
def test_orthonormalize_gives_the_nearest_rotation(twist, disturbance):
    transform = se3.exp(twist)
    transform[:3, :3] += disturbance
    out = se3.orthonormalize(transform)
    np.testing.assert_allclose(out[:3, :3] @ out[:3, :3].T, np.eye(3), atol=1e-10)
    assert np.linalg.det(out[:3, :3]) > 0
    away = np.linalg.norm(out[:3, :3] - transform[:3, :3])
    for nearby in Rotation.from_rotvec(0.01 * np.concatenate([np.eye(3), -np.eye(3)])).as_matrix():
        assert np.linalg.norm(nearby @ out[:3, :3] - transform[:3, :3]) >= away - 1e-12


def _with(row, column, value):
    transform = np.eye(4)
    transform[row, column] = value
    return transform


@pytest.mark.parametrize(
    "transform, message",
    [
        (np.eye(3), "4x4"),
        (np.zeros(16), "4x4"),
        (_with(0, 3, np.nan), "NaN"),
        (_with(1, 3, np.inf), "NaN or infinity"),
        (_with(3, 0, 1.0), "last row"),
        (_with(0, 0, -1.0), "rotation"),
        (np.diag([2.0, 2, 2, 1]), "rotation"),
        (_with(0, 1, 0.5), "rotation"),
    ],
)
def test_check_names_what_is_wrong(transform, message):
    with pytest.raises(ValueError, match="T_odom_cam.*" + message):
        se3.check(transform, "T_odom_cam")


def test_check_cleans_the_rounding_of_float32():
    exact = se3.exp([1, 2, 3, 0.3, -1.0, 2.0])
    cleaned = se3.check(exact.astype(np.float32))
    assert cleaned.dtype == np.float64
    np.testing.assert_allclose(cleaned[:3, :3] @ cleaned[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(cleaned, exact, atol=1e-6)
