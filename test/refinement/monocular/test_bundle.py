"""Tracks and bundle adjustment on matches of rendered images whose poses are exact."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vggt3_ros.config import BackendConfig, PoseGraphConfig
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.monocular import bundle
from vggt3_ros.refinement.monocular.structure import Structure, rescaled
from vggt3_ros.refinement.monocular.tracks import build_tracks, reprojection, triangulate


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
    chain = {
        (1, 0): np.array([[0, 0]]),
        (2, 1): np.array([[0, 0]]),
        (3, 2): np.array([[0, 0]]),
        (3, 0): np.array([[1, 0]]),
    }
    found = build_tracks(keypoints, chain)  # image 3 claims two keypoints for the one track
    assert list(zip(found.image, found.keypoint)) == [(0, 0), (1, 0), (2, 0)]
    np.testing.assert_array_equal(found.pixels[1], keypoints[1][0])
    assert build_tracks(keypoints, {}).tracks == 0


def test_true_poses_triangulate_to_the_true_surface(observations, frames, rendered):
    cameras = [frame.camera for frame in frames[:12]]
    points, angle = triangulate(observations, cameras, rendered.T_world_cam[:12])
    error, depth = reprojection(observations, cameras, rendered.T_world_cam[:12], points)
    measured = np.array(
        [frames[i].keypoint_depth[k] for i, k in zip(observations.image, observations.keypoint)]
    )
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


def test_a_bundle_is_rescaled_about_its_first_camera(rendered):
    half = rendered.T_world_cam.copy()
    half[:, :3, 3] *= 0.5
    small = bundle.Bundle(half, None, half[:, :3, 3], 0.0)
    np.testing.assert_allclose(
        se3.inverse(rescaled(small, 2).T_map_cam[0]) @ rescaled(small, 2).T_map_cam[5],
        se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_cam[5],
        atol=1e-9,
    )


def test_a_scale_that_drifts_is_straightened_where_the_path_comes_back():
    """Two rounds in a room of points; by the odometry the last step is 10 % too long. What is left
    is one scale for all.
    """
    rng = np.random.default_rng(0)
    camera = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
    turn = np.linspace(0, 4 * np.pi, 72)
    truth = np.array(
        [
            se3.from_rotation_translation(
                Rotation.from_euler("y", angle).as_matrix(),
                [1.5 * np.sin(angle), 0.1 * np.sin(angle), 1.5 * np.cos(angle)],
            )
            for angle in turn
        ]
    )
    directions = rng.normal(size=(1500, 3)) * (1, 0.3, 1)
    points = 4 * directions / np.abs(directions[:, [0, 2]]).max(axis=1, keepdims=True)
    keypoints, matches, seen = [], {}, []
    for T in truth:
        local = se3.transform_points(se3.inverse(T), points)
        pixels = camera.project(local)
        seen.append(
            np.flatnonzero(
                (local[:, 2] > 0.3) & (pixels > 0).all(1) & (pixels < (640, 480)).all(1)
            )
        )
        keypoints.append(pixels[seen[-1]] + rng.normal(0, 0.5, (len(seen[-1]), 2)))
    for i in range(len(truth)):
        # 36 keyframes are a round
        for j in {i - 1, i - 2, i - 4, i - 36} & set(range(len(truth))):
            _, first, second = np.intersect1d(seen[i], seen[j], return_indices=True)
            matches[i, j] = np.stack([first, second], 1)
    odometry = [truth[0]]
    for factor, step in zip(
        np.linspace(1, 1.1, len(truth) - 1), se3.inverse(truth[:-1]) @ truth[1:]
    ):
        step[:3, 3] *= factor
        odometry.append(odometry[-1] @ step @ se3.exp(rng.normal(0, 0.002, 6)))
    odometry = np.array(odometry)
    stamps = np.arange(len(truth)) * 10**9
    noise = np.tile(np.diag([0.03**2] * 3 + [0.01**2] * 3), (len(truth), 1, 1))
    solved = bundle.adjust(
        odometry, noise, [camera] * len(truth), build_tracks(keypoints, matches), PoseGraphConfig()
    )
    before, after = (
        trajectory_error(T, truth, stamps, correct_scale=True)
        for T in (odometry, solved.T_map_cam)
    )
    assert before.ate_m > 0.04 and after.ate_m < 0.01 and 0.9 < after.scale < 1.0
