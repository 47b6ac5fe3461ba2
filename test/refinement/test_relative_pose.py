"""Motion between two depth images from matches of which many are wrong."""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.relative_pose import View, estimate

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
THRESHOLD, MINIMUM = 3.0, 30


def matches(rng, count=150, outliers=0.4, pixel_noise=0.7, depth_noise=0.01, missing=0.15):
    """(source View, target View, T_source_target, which matches are right)."""
    T = se3.exp(np.concatenate([rng.uniform(-0.5, 0.5, 3), rng.uniform(-0.25, 0.25, 3)]))
    points = CAMERA.unproject(
        rng.uniform((0, 0), (639, 479), (4 * count, 2)), rng.uniform(1, 4, 4 * count)
    )
    there = se3.transform_points(se3.inverse(T), points)
    pixels = CAMERA.project(there)
    seen = (there[:, 2] > 0.3) & (pixels > 0).all(axis=1) & (pixels < (639, 479)).all(axis=1)
    points, there, pixels = points[seen][:count], there[seen][:count], pixels[seen][:count]
    right = np.ones(len(points), bool)
    right[rng.permutation(len(points))[: round(outliers * len(points))]] = False
    pixels = np.where(right[:, None], pixels, rng.uniform((0, 0), (639, 479), pixels.shape))
    views = []
    for view_pixels, depth in (
        (CAMERA.project(points), points[:, 2]),
        (pixels, np.where(right, there[:, 2], rng.uniform(1, 4, len(points)))),
    ):
        noisy = depth * (1 + depth_noise * rng.standard_normal(len(depth)))
        noisy[rng.random(len(depth)) < missing] = 0
        views.append(
            View(CAMERA, view_pixels + pixel_noise * rng.standard_normal(view_pixels.shape), noisy)
        )
    return *views, T, right


def test_recovers_the_motion_among_outliers_and_knows_how_well():
    metres, degrees, distances, deviations = [], [], [], []
    for seed in range(60):
        source, target, T, right = matches(np.random.default_rng(seed))
        found = estimate(source, target, THRESHOLD, MINIMUM)
        error = se3.log(se3.inverse(T) @ found.T_source_target)
        metres.append(np.linalg.norm(error[:3]))
        degrees.append(np.degrees(np.linalg.norm(error[3:])))
        distances.append(error @ found.information @ error)
        deviations.append(
            np.sqrt(np.linalg.inv(found.information)[np.arange(3), np.arange(3)]).max()
        )
        assert found.inliers[right].mean() > 0.85 and found.inliers[~right].mean() < 0.1
        assert 0.3 < found.reprojection_px < 1.5
    assert np.median(metres) < 0.006 and max(metres) < 0.02
    assert np.median(degrees) < 0.15 and max(degrees) < 0.5
    # A 6-d chi square has its median at 5.3 and 99 % below 16.8.
    assert np.median(distances) < 6 and np.quantile(distances, 0.95) < 17
    assert np.median(deviations) < 0.1  # honest, not shy: a loop must still pull


def test_worse_matches_are_trusted_less():
    def information(**options):
        return np.median(
            [
                np.linalg.eigvalsh(
                    estimate(
                        *matches(np.random.default_rng(seed), **options)[:2], THRESHOLD, MINIMUM
                    ).information
                ).min()
                for seed in range(10)
            ]
        )

    usual = information()
    assert information(count=60) < usual
    assert information(depth_noise=0.04) < usual
    assert information(pixel_noise=1.4) < usual


def test_depth_in_the_source_alone_is_enough():
    source, target, T, _ = matches(np.random.default_rng(5))
    found = estimate(
        source, View(CAMERA, target.pixels, np.zeros_like(target.depth)), THRESHOLD, MINIMUM
    )
    assert np.abs(se3.log(se3.inverse(T) @ found.T_source_target)).max() < 0.02


def test_a_start_nearby_leads_to_the_same_motion():
    source, target, T, _ = matches(np.random.default_rng(1), outliers=0.1)
    free = estimate(source, target, THRESHOLD, MINIMUM)
    started = estimate(
        source, target, THRESHOLD, MINIMUM, T @ se3.exp([0.03, -0.02, 0.02, 0.01, 0.01, -0.01])
    )
    np.testing.assert_allclose(started.T_source_target, free.T_source_target, atol=2e-3)


@pytest.mark.parametrize("seed", range(10))
def test_matches_that_are_all_wrong_give_no_motion(seed):
    source, target, _, _ = matches(np.random.default_rng(seed), outliers=1.0)
    assert estimate(source, target, THRESHOLD, MINIMUM) is None


def test_too_few_matches_or_no_depth_give_no_motion():
    source, target, _, _ = matches(np.random.default_rng(0), count=25, outliers=0)
    assert estimate(source, target, THRESHOLD, MINIMUM) is None
    source, target, _, _ = matches(np.random.default_rng(0), outliers=0)
    blind = [View(v.camera, v.pixels, np.zeros_like(v.depth)) for v in (source, target)]
    assert estimate(*blind, THRESHOLD, MINIMUM) is None
    none = View(CAMERA, np.zeros((0, 2)), np.zeros(0))
    assert estimate(none, none, THRESHOLD, MINIMUM) is None
