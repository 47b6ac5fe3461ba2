"""Pose from points and pixels: as good as the noise allows, with a covariance that says so."""

import numpy as np
import pytest
from scipy.stats import chi2

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.pose_refinement import refine

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)


def problem(rng, count=300, point_noise=0.01, pixel_noise=0.7, outliers=0.2, T_map_cam=None):
    """(T_map_cam, pixels, points in map, right mask)."""
    T_map_cam = (
        se3.exp(np.concatenate([rng.uniform(-5, 5, 3), rng.uniform(-1, 1, 3)]))
        if T_map_cam is None
        else T_map_cam
    )
    pixels = rng.uniform((0, 0), (639, 479), (count, 2))
    points = se3.transform_points(T_map_cam, CAMERA.unproject(pixels, rng.uniform(1, 4, count)))
    right = np.arange(count) >= outliers * count
    pixels = np.where(
        right[:, None],
        pixels + pixel_noise * rng.standard_normal(pixels.shape),
        rng.uniform((0, 0), (639, 479), pixels.shape),
    )
    return T_map_cam, pixels, points + point_noise * rng.standard_normal(points.shape), right


def start(T_map_cam, rng, size=0.05):
    return se3.inverse(T_map_cam @ se3.exp(size * rng.standard_normal(6)))


def off(found, T_map_cam):
    """(6,) error of the found T_map_cam in map axes: metres, radians."""
    pose = se3.inverse(found.T_cam_map)
    return np.concatenate(
        [pose[:3, 3] - T_map_cam[:3, 3], se3.log(pose @ se3.inverse(T_map_cam))[3:]]
    )


def test_finds_the_pose_among_outliers():
    metres, degrees = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        T_map_cam, pixels, points, right = problem(rng)
        found = refine(
            start(T_map_cam, rng), CAMERA, pixels, points, np.full(len(points), 0.01), 8.0
        )
        error = off(found, T_map_cam)
        metres.append(np.linalg.norm(error[:3]))
        degrees.append(np.degrees(np.linalg.norm(error[3:])))
        assert found.inliers[right].mean() > 0.85 and found.inliers[~right].mean() < 0.1
    assert np.median(metres) < 0.012 and np.median(degrees) < 0.3


DRAWS = 120


@pytest.mark.parametrize("metres", [0, 5, 20, 100])
@pytest.mark.parametrize("count, outliers", [(300, 0.0), (300, 0.2), (1000, 0.0)])
def test_covariance_is_consistent_wherever_the_origin_lies(metres, count, outliers):
    """The normalized error squared has 6 degrees of freedom; both too small and too large a
    covariance are wrong.
    """
    distances = []
    for seed in range(DRAWS):
        rng = np.random.default_rng([seed, count])
        direction = rng.normal(size=3)
        T_map_cam = se3.exp(
            np.concatenate([metres * direction / np.linalg.norm(direction), rng.uniform(-2, 2, 3)])
        )
        _, pixels, points, _ = problem(rng, count, outliers=outliers, T_map_cam=T_map_cam)
        found = refine(
            start(T_map_cam, rng, 0.02), CAMERA, pixels, points, np.full(count, 0.01), 12.0
        )
        error = off(found, T_map_cam)
        distances.append(error @ np.linalg.solve(found.covariance, error))
    low, high = chi2.ppf((0.0005, 0.9995), 6 * DRAWS) / DRAWS
    # errors are a mixture of what depths and outliers leave, which so many points know to about
    # this much
    slack = 1.12
    assert low / slack < np.mean(distances) < high * slack
    assert 0.88 < np.mean(np.array(distances) < chi2.ppf(0.95, 6)) <= 0.995


def test_points_that_err_as_one_are_counted_as_one():
    """Ten keyframes, whose points are each off together by 2 cm."""
    distances, alone = [], []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        T_map_cam, pixels, points, _ = problem(rng, 400, point_noise=0.002, outliers=0)
        keyframe = rng.integers(0, 40, 400)
        shifted = points + 0.02 * rng.standard_normal((40, 3))[keyframe]
        found = refine(
            start(T_map_cam, rng, 0.02),
            CAMERA,
            pixels,
            shifted,
            np.full(400, 0.01),
            20.0,
            keyframe,
        )
        error = off(found, T_map_cam)
        distances.append(error @ np.linalg.solve(found.covariance, error))
        alone.append(error @ np.linalg.solve(found.covariance / found.alike, error))
    assert 4 < np.mean(distances) < 9 and np.mean(alone) > 15


def test_points_behind_the_camera_pull_nowhere():
    """They were linearised just before it, where a pixel weighs as much as metres elsewhere."""
    rng = np.random.default_rng(3)
    T_map_cam, pixels, points, _ = problem(rng, outliers=0)
    first = start(T_map_cam, rng, 0.02)
    behind = se3.transform_points(T_map_cam, rng.uniform((-1, -1, -0.5), (1, 1, -0.001), (200, 3)))
    more = (
        np.concatenate([pixels, rng.uniform((0, 0), (639, 479), (200, 2))]),
        np.concatenate([points, behind]),
    )
    without = refine(first, CAMERA, pixels, points, np.full(len(points), 0.01), 8.0)
    found = refine(first, CAMERA, *more, np.full(len(more[0]), 0.01), 8.0)
    np.testing.assert_allclose(found.T_cam_map, without.T_cam_map, atol=1e-9)
    assert not found.inliers[len(pixels) :].any()


def test_what_the_points_do_not_tell_adds_to_the_uncertainty():
    rng = np.random.default_rng(5)
    T_map_cam, pixels, points, _ = problem(rng, outliers=0)
    found = refine(
        start(T_map_cam, rng, 0.01), CAMERA, pixels, points, np.full(len(points), 0.01), 8.0
    )
    more = found.uncertainty(CAMERA) - found.covariance
    misfit = found.reprojection_px * found.depth / CAMERA.fx
    assert (np.linalg.eigvalsh(more) > 0).all() and 0.1 * misfit < np.sqrt(more[0, 0]) < 2 * misfit


def test_covariance_is_largest_along_the_least_certain_direction():
    """Points far ahead in a narrow view hardly tell how far away the camera is."""
    rng = np.random.default_rng(0)
    T_map_cam = se3.exp([1, 2, 3, 0.3, -0.9, 0.5])
    pixels = rng.uniform((270, 190), (370, 290), (300, 2))
    points = se3.transform_points(T_map_cam, CAMERA.unproject(pixels, rng.uniform(2.0, 12.0, 300)))
    errors, found = [], None
    for _ in range(60):
        noisy = pixels + 0.7 * rng.standard_normal(pixels.shape)
        found = refine(
            start(T_map_cam, rng, 0.005), CAMERA, noisy, points, np.full(300, 0.001), 4.0
        )
        errors.append(se3.inverse(found.T_cam_map)[:3, 3] - T_map_cam[:3, 3])
    values, axes = np.linalg.eigh(np.cov(np.transpose(errors)))
    claimed, claimed_axes = np.linalg.eigh(found.covariance[:3, :3])
    assert values[2] > 2 * values[0] and abs(axes[:, 2] @ claimed_axes[:, 2]) > 0.9
    np.testing.assert_allclose(claimed[2] / claimed[0], values[2] / values[0], rtol=0.6)


def test_unsure_points_pull_less():
    rng = np.random.default_rng(4)
    T_map_cam, pixels, points, _ = problem(rng, outliers=0)
    sigma = np.where(np.arange(len(points)) < 150, 0.003, 0.3)
    points = points + sigma[:, None] * rng.standard_normal(points.shape)
    first = start(T_map_cam, rng, 0.02)
    told, untold = (
        np.linalg.norm(
            se3.inverse(refine(first, CAMERA, pixels, points, s, 8.0).T_cam_map)[:3, 3]
            - T_map_cam[:3, 3]
        )
        for s in (sigma, np.full(len(points), 0.1))
    )
    assert told < 0.01 and told < untold


@pytest.mark.parametrize(
    "points",
    [np.tile([0, 0, -1.0], (50, 1)), np.tile([0.1, 0.1, 2.0], (50, 1)), np.full((50, 3), 1e6)],
)
def test_degenerate_points_give_no_confidence(points):
    pixels = np.random.default_rng(0).uniform((0, 0), (639, 479), (50, 2))
    found = refine(np.eye(4), CAMERA, pixels, points, np.full(50, 0.01), 4.0)
    assert np.isfinite(found.T_cam_map).all() and np.isfinite(found.covariance).all()
    assert found.inliers.sum() < 10
