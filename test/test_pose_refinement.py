"""Pose from points and pixels: as good as the noise allows, with a covariance that says so."""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.pose_refinement import refine

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)


def problem(rng, count=300, point_noise=0.01, pixel_noise=0.7, outliers=0.2):
    """(T_map_cam, pixels, points in map, right mask)."""
    T_map_cam = se3.exp(np.concatenate([rng.uniform(-5, 5, 3), rng.uniform(-1, 1, 3)]))
    pixels = rng.uniform((0, 0), (639, 479), (count, 2))
    points = se3.transform_points(T_map_cam, CAMERA.unproject(pixels, rng.uniform(1, 4, count)))
    right = np.arange(count) >= outliers * count
    pixels = np.where(right[:, None], pixels + pixel_noise * rng.standard_normal(pixels.shape), rng.uniform((0, 0), (639, 479), pixels.shape))
    return T_map_cam, pixels, points + point_noise * rng.standard_normal(points.shape), right


def start(T_map_cam, rng, size=0.05):
    return se3.inverse(T_map_cam @ se3.exp(size * rng.standard_normal(6)))


def test_finds_the_pose_and_an_honest_covariance_in_map_axes():
    metres, degrees, distances, sizes = [], [], [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        T_map_cam, pixels, points, right = problem(rng)
        found = refine(start(T_map_cam, rng), CAMERA, pixels, points, np.full(len(points), 0.01), 8.0)
        pose = se3.inverse(found.T_cam_map)
        error = np.concatenate([pose[:3, 3] - T_map_cam[:3, 3], se3.log(pose @ se3.inverse(T_map_cam))[3:]])
        metres.append(np.linalg.norm(error[:3]))
        degrees.append(np.degrees(np.linalg.norm(error[3:])))
        assert np.linalg.eigvalsh(found.covariance).min() > 0
        distances.append(error @ np.linalg.solve(found.covariance, error))
        sizes.append(np.sqrt(np.trace(found.covariance[:3, :3])))
        assert found.inliers[right].mean() > 0.85 and found.inliers[~right].mean() < 0.1
    assert np.median(metres) < 0.012 and np.median(degrees) < 0.3
    assert np.quantile(distances, 0.95) < 17  # chi square of 6: 99 %
    assert np.median(sizes) < 0.1


def test_covariance_is_largest_along_the_least_certain_direction():
    """Points far ahead in a narrow view hardly tell how far away the camera is."""
    rng = np.random.default_rng(0)
    T_map_cam = se3.exp([1, 2, 3, 0.3, -0.9, 0.5])
    pixels = rng.uniform((270, 190), (370, 290), (300, 2))
    points = se3.transform_points(T_map_cam, CAMERA.unproject(pixels, rng.uniform(2.0, 12.0, 300)))
    errors, found = [], None
    for _ in range(60):
        noisy = pixels + 0.7 * rng.standard_normal(pixels.shape)
        found = refine(start(T_map_cam, rng, 0.005), CAMERA, noisy, points, np.full(300, 0.001), 4.0)
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
    told, untold = (np.linalg.norm(se3.inverse(refine(first, CAMERA, pixels, points, s, 8.0).T_cam_map)[:3, 3] - T_map_cam[:3, 3])
                    for s in (sigma, np.full(len(points), 0.1)))
    assert told < 0.01 and told < untold


@pytest.mark.parametrize("points", [np.tile([0, 0, -1.0], (50, 1)), np.tile([0.1, 0.1, 2.0], (50, 1)), np.full((50, 3), 1e6)])
def test_degenerate_points_give_no_confidence(points):
    pixels = np.random.default_rng(0).uniform((0, 0), (639, 479), (50, 2))
    found = refine(np.eye(4), CAMERA, pixels, points, np.full(50, 0.01), 4.0)
    assert np.isfinite(found.T_cam_map).all() and np.isfinite(found.covariance).all()
    assert found.inliers.sum() < 10
