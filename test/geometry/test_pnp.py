"""Poses from points and pixels."""

import numpy as np
import pytest

from vggt3_ros.geometry import pnp, se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
T_CAM_MAP = se3.exp([0.2, -0.1, 0.3, 0.1, 0.3, -0.2])


def scene(count, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    in_camera = rng.uniform((-1, -1, 2), (1, 1, 6), (count, 3))
    pixels = CAMERA.project(in_camera) + rng.normal(0, noise, (count, 2))
    return pixels, se3.transform_points(se3.inverse(T_CAM_MAP), in_camera)


def off(T):
    """(metres, radians) between a pose and the true one."""
    motion = T @ se3.inverse(T_CAM_MAP)
    return np.linalg.norm(motion[:3, 3]), se3.rotation_angle(motion)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_finds_the_pose_and_who_agrees_among_wrong_matches(share):
    pixels, points = scene(200)
    wrong = np.random.default_rng(1).random(200) < share
    pixels[wrong] = np.random.default_rng(2).uniform(0, (640, 480), (wrong.sum(), 2))
    T, inliers = pnp.ransac(pixels, points, CAMERA, 3.0, 1.0, (60, 1000))
    assert off(T)[0] < 0.01 and off(T)[1] < 0.003
    assert inliers[~wrong].mean() > 0.98 and inliers[wrong].sum() <= 3


def test_says_nothing_of_too_few_points_or_of_noise():
    pixels, points = scene(3)
    T, inliers = pnp.ransac(pixels, points, CAMERA, 3.0, 1.0, (60, 1000))
    assert T is None and not inliers.any() and len(inliers) == 3
    same = np.tile(points[:1], (20, 1))  # one point tells no pose
    T, inliers = pnp.ransac(scene(20)[0], same, CAMERA, 0.1, 0.1, (60, 200))
    assert T is None and len(inliers) == 20


def linearize(pixels, points, weights=1.0):
    def at(T):
        moved = se3.transform_points(T, points)
        jacobian = CAMERA.projection_jacobian(moved) @ pnp.motion_jacobian(moved)
        return CAMERA.project(moved) - pixels, jacobian, np.broadcast_to(weights, len(points))

    return at


def test_gauss_newton_ends_where_no_motion_betters_the_fit():
    pixels, points = scene(100)
    steps = []
    at = linearize(pixels, points)
    T, hessian = pnp.gauss_newton(
        se3.exp([0.1, 0, 0, 0, 0.05, 0]) @ T_CAM_MAP, lambda T: steps.append(T) or at(T), 50, 1e-9
    )
    assert 3 <= len(steps) < 10 and off(T)[0] < 0.005
    cost = lambda T: np.square(at(T)[0]).sum()
    for axis in np.eye(6):
        for size in (-1e-4, 1e-4):
            assert cost(se3.exp(size * axis) @ T) > cost(T)
    # the normal matrix is that of the last step, and tells how well the pose is known
    _, jacobians, _ = at(T)
    flat = jacobians.reshape(-1, 6)
    np.testing.assert_allclose(hessian, flat.T @ flat, atol=1e-6 * hessian.max())


def test_gauss_newton_takes_the_steps_it_may_and_heeds_weights():
    pixels, points = scene(60, noise=0.0)
    pixels[:20] += 40.0
    weights = np.r_[np.zeros(20), np.ones(40)]
    start = se3.exp([0.05, 0, 0, 0, 0.02, 0]) @ T_CAM_MAP
    T, _ = pnp.gauss_newton(start, linearize(pixels, points, weights), 20, 1e-12)
    assert off(T)[0] < 1e-6 and off(T)[1] < 1e-6
    T, hessian = pnp.gauss_newton(start, linearize(pixels, points), 0, 0.0)
    np.testing.assert_array_equal(T, start)
    assert not hessian.any()


def test_the_jacobian_is_the_derivative():
    points, small = scene(10)[1], 1e-6
    for axis, step in enumerate(np.eye(6) * small):
        ahead = se3.transform_points(se3.exp(step), points)
        behind = se3.transform_points(se3.exp(-step), points)
        np.testing.assert_allclose(
            pnp.motion_jacobian(points)[:, :, axis], (ahead - behind) / (2 * small), atol=1e-8
        )
