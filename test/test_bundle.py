"""Tracks and bundle adjustment on matches of rendered images whose poses are exact."""

import numpy as np
import pytest

from vggt3_ros.config import BackendConfig, PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.mapping import bundle
from vggt3_ros.mapping.structure import Structure, odometry_scale, rescaled
from vggt3_ros.mapping.tracks import build_tracks, reprojection, triangulate


@pytest.fixture(scope="module")
def observations(frames):
    structure = Structure(frames.__getitem__, BackendConfig(), "cpu")
    matches = {(i, j): structure.matched(i, j) for i in range(12) for j in range(max(0, i - 4), i)}
    return build_tracks([frame.features.keypoints for frame in frames[:12]], matches)


def test_a_track_holds_one_keypoint_an_image(observations):
    pairs = np.stack([observations.track, observations.image])
    assert np.unique(pairs, axis=1).shape == pairs.shape
    assert np.bincount(observations.track).min() >= 2 and (np.diff(observations.track) >= 0).all()


def test_chains_of_matches_become_one_track_and_ambiguous_images_are_left_out():
    keypoints = [np.arange(8.0).reshape(4, 2) + 10 * i for i in range(4)]
    chain = {(1, 0): np.array([[0, 0]]), (2, 1): np.array([[0, 0]]), (3, 2): np.array([[0, 0]]), (3, 0): np.array([[1, 0]])}
    found = build_tracks(keypoints, chain)  # image 3 claims two keypoints for the one track
    assert list(zip(found.image, found.keypoint)) == [(0, 0), (1, 0), (2, 0)]
    np.testing.assert_array_equal(found.pixels[1], keypoints[1][0])
    assert build_tracks(keypoints, {}).tracks == 0


def test_true_poses_triangulate_to_the_true_surface(observations, frames, rendered):
    cameras = [frame.camera for frame in frames[:12]]
    points, angle = triangulate(observations, cameras, rendered.T_world_cam[:12])
    error, depth = reprojection(observations, cameras, rendered.T_world_cam[:12], points)
    measured = np.array([frames[i].keypoint_depth[k] for i, k in zip(observations.image, observations.keypoint)])
    good = (error < 2) & (angle[observations.track] > np.radians(4)) & (measured > 0)
    assert good.sum() > 500 and np.median(np.abs(depth[good] / measured[good] - 1)) < 0.02


def test_bundle_corrects_drifting_odometry(observations, frames, rendered):
    truth, odometry = rendered.T_world_cam[:12], rendered.T_odom_cam[:12]
    noise = np.tile(np.diag([0.02**2] * 3 + [0.01**2] * 3), (12, 1, 1))
    cameras = [frame.camera for frame in frames[:12]]
    solved = bundle.adjust(odometry, noise, cameras, observations, PoseGraphConfig())
    assert solved.reprojection_px < 1.0

    def off(T):
        steps = [se3.inverse(P[:-1]) @ P[1:] for P in (T, truth)]
        apart = se3.inverse(steps[0]) @ steps[1]
        return np.median(np.degrees(se3.rotation_angle(apart)))

    assert off(solved.T_map_cam) < 0.4 * off(odometry)


def test_odometry_gives_the_scale(rendered):
    half = rendered.T_world_cam.copy()
    half[:, :3, 3] *= 0.5
    wild = rendered.T_world_cam.copy()
    wild[::5, :3, 3] += np.random.default_rng(0).normal(0, 0.1, wild[::5, :3, 3].shape)  # outliers
    assert odometry_scale(wild, half) == pytest.approx(2.0, rel=0.03)
    assert odometry_scale(rendered.T_world_cam[:2], half[:2]) == 1.0  # no span is long enough to tell
    small = bundle.Bundle(half, None, half[:, :3, 3], 0.0)
    np.testing.assert_allclose(se3.inverse(rescaled(small, 2).T_map_cam[0]) @ rescaled(small, 2).T_map_cam[5],
                               se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_cam[5], atol=1e-9)
