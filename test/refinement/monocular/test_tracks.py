"""Tracks: which keypoints show one point, where it lies, and what is left of them when
observations go.
"""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.monocular.tracks import (
    Observations,
    build_tracks,
    reprojection,
    triangulate,
)

CAMERA = Camera(640, 480, 500.0, 510.0, 320.0, 240.0)


def scene(noise=0.0, seed=0):
    """(Observations of 40 points by 5 cameras, cameras, their poses, the points)."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-1, -0.8, 3), (1, 0.8, 5), (40, 3))
    T = np.array([se3.exp([0.15 * i, 0.05 * i, 0, 0, -0.02 * i, 0.1 * i]) for i in range(5)])
    pixels = np.stack(
        [CAMERA.project(se3.transform_points(se3.inverse(pose), points)) for pose in T], axis=1
    )
    track, image = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)
    return (
        Observations(
            track, image, track, pixels.reshape(-1, 2) + noise * rng.standard_normal((200, 2))
        ),
        [CAMERA] * 5,
        T,
        points,
    )


def test_rays_meet_in_the_points_and_the_widest_angle_is_that_between_the_outer_cameras():
    observations, cameras, T, points = scene()
    found, angle = triangulate(observations, cameras, T)
    np.testing.assert_allclose(found, points, atol=1e-4)
    outer = [points - T[i, :3, 3] for i in (0, 4)]
    expected = np.arccos(
        (outer[0] * outer[1]).sum(1)
        / np.linalg.norm(outer[0], axis=1)
        / np.linalg.norm(outer[1], axis=1)
    )
    np.testing.assert_allclose(angle, expected, rtol=0.3)
    error, depth = reprojection(observations, cameras, T, found)
    assert error.max() < 1e-3
    np.testing.assert_allclose(
        depth[observations.image == 2],
        se3.transform_points(se3.inverse(T[2]), points)[:, 2],
        atol=1e-4,
    )


def test_noise_of_pixels_moves_points_by_no_more_than_their_rays_cross():
    off = []
    for seed in range(10):
        observations, cameras, T, points = scene(0.5, seed)
        off.append(np.linalg.norm(triangulate(observations, cameras, T)[0] - points, axis=1))
    # Half a pixel at f = 500 over a baseline of 0.63 m at 4 m: z^2 / (b f) * sigma is 2.5 cm for
    # two rays, less for five.
    assert 0.005 < np.median(off) < 0.03


def test_what_lies_behind_a_camera_is_infinitely_far_off():
    observations, cameras, T, points = scene()
    points[3] = (0, 0, -2)
    error, _ = reprojection(observations, cameras, T, points)
    assert (
        np.isinf(error[observations.track == 3]).all()
        and np.isfinite(error[observations.track != 3]).all()
    )


def test_tracks_that_lose_all_but_one_observation_go_and_the_others_are_numbered_anew():
    observations, *_ = scene()
    mask = ~((observations.track == 0) & (observations.image > 0)) & ~(
        (observations.track == 7) & (observations.image < 2)
    )
    kept, old = observations.only(mask)
    assert (
        kept.tracks == 39 and old.tolist() == list(range(1, 40)) and len(kept.track) == 39 * 5 - 2
    )
    np.testing.assert_array_equal(np.unique(kept.track), np.arange(39))
    assert (kept.track == 6).sum() == 3  # it was 7
    everything, old = observations.only(np.zeros(200, bool))
    assert everything.tracks == 0 and not len(old)


@pytest.mark.parametrize("seed", range(3))
def test_tracks_are_the_points_whatever_pairs_were_matched(seed):
    """A spanning set of pairs, in any order, with a few wrong matches: wrong tracks lose images,
    right ones are whole.
    """
    rng = np.random.default_rng(seed)
    # keypoint k of image i shows point order[i][k]
    order = [rng.permutation(60) for _ in range(5)]
    where = [np.argsort(one) for one in order]
    matches = {
        (i, j): np.stack([where[i], where[j]], 1) for i, j in [(1, 0), (3, 1), (2, 3), (4, 0)]
    }
    wrong = rng.choice(60, 4, replace=False)
    matches[2, 3][wrong, 1] = np.roll(matches[2, 3][wrong, 1], 1)
    keypoints = [rng.uniform(0, 400, (60, 2)) for _ in range(5)]
    found = build_tracks(keypoints, matches)
    shown = np.array([order[i][k] for i, k in zip(found.image, found.keypoint)])
    for track in range(found.tracks):
        of = found.track == track
        assert len(np.unique(found.image[of])) == of.sum()
        if not np.isin(shown[of], wrong).any():
            assert len(np.unique(shown[of])) == 1 and of.sum() == 5
    np.testing.assert_array_equal(
        found.pixels, [keypoints[i][k] for i, k in zip(found.image, found.keypoint)]
    )
    assert (np.bincount(found.track) == 5).sum() >= 56
