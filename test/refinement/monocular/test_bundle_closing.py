"""After the bundle: covariances that poses scatter by, scale included, and loops in the scale of
the poses.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.closing import Closing
from vggt3_ros.refinement.monocular import bundle
from vggt3_ros.refinement.monocular.bundle_closing import (
    depth_growth,
    in_poses_of,
    pose_covariances,
)
from vggt3_ros.refinement.monocular.odometry_scale import BIAS, odometry_scale
from vggt3_ros.refinement.monocular.structure import rescaled
from vggt3_ros.refinement.monocular.tracks import Observations, build_tracks, triangulate
from vggt3_ros.store.snapshot import Loop
from vggt3_ros.store.stored_poses import StoredPoses

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
STEP = np.repeat([0.03, 0.01], 3)  # deviation of an odometry step, metres and radians
START = se3.exp([30.0, -20.0, 4.0, 0.4, -0.3, 1.1])  # far from the origin and askew
COUNT, DRAWS = 16, 24


def walk():
    """(T_map_cam, points): sideways along a wall, turning a little."""
    rng = np.random.default_rng(0)
    T = START @ np.array(
        [
            se3.exp([0.25 * k, 0.1 * np.sin(k), 0.05 * k, 0.02 * np.sin(k), 0.03 * np.cos(k), 0])
            for k in range(COUNT)
        ]
    )
    local = rng.uniform((-1.5, -1.2, 2.5), (5.0, 1.2, 4.5), (150, 3))
    return T, se3.transform_points(START, local)


def seen(T, points, rng, pixel_sigma):
    keypoints, ids = [], []
    for pose in T:
        local = se3.transform_points(se3.inverse(pose), points)
        pixels = CAMERA.project(local)
        ids.append(
            np.flatnonzero(
                (local[:, 2] > 0.3) & (pixels > 5).all(1) & (pixels < (634, 474)).all(1)
            )
        )
        keypoints.append(pixels[ids[-1]] + pixel_sigma * rng.standard_normal((len(ids[-1]), 2)))
    matches = {}
    for i in range(len(T)):
        for j in range(max(0, i - 4), i):
            _, first, second = np.intersect1d(ids[i], ids[j], return_indices=True)
            matches[i, j] = np.stack([first, second], 1)
    return build_tracks(keypoints, matches)


@pytest.fixture(scope="module")
def solved():
    """DRAWS times (the truth, the Bundle in metres, its Scale): odometry and pixels err as is
    said, steps by a bias besides.
    """
    T, points = walk()
    noise, out = np.tile(np.diag(STEP**2), (COUNT, 1, 1)), []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        odometry, bias = [T[0]], BIAS * STEP * (1, 1, 1, 0, 0, 0) * rng.standard_normal(6)
        for step in se3.inverse(T[:-1]) @ T[1:]:
            odometry.append(odometry[-1] @ step @ se3.exp(STEP * rng.standard_normal(6) + bias))
        odometry = np.array(odometry)
        free = bundle.adjust(
            odometry,
            noise,
            [CAMERA] * COUNT,
            seen(T, points, rng, bundle.PIXEL_SIGMA),
            PoseGraphConfig(),
        )
        scale = odometry_scale(odometry, noise, free.T_map_cam)
        out.append((T, rescaled(free, scale.metres), scale))
    return out


def errors(T, poses):
    """(N, 6) in the map's axes, translation first."""
    turn = se3.log(poses @ se3.inverse(T))[:, 3:]
    return np.concatenate([poses[:, :3, 3] - T[:, :3, 3], turn], axis=1)


@pytest.mark.parametrize("k", [3, 8, COUNT - 1])
def test_poses_scatter_by_their_covariances(solved, k):
    """Normalised errors squared over all draws, on either side of chi-square: near the anchor and
    far from it. Half as much again and a third less are left for the kernels, which make a weight
    of every residual.
    """
    squared = []
    for T, found, scale in solved:
        covariance, error = pose_covariances(found, scale)[k], errors(T, found.T_map_cam)[k]
        squared.append(error @ np.linalg.solve(covariance, error))
    low, high = chi2.ppf((0.001, 0.999), 6 * DRAWS)
    assert low / 1.5 < sum(squared) < 1.5 * high, np.mean(squared) / 6


def test_what_scale_leaves_unknown_is_in_the_covariances(solved):
    """Along the way it is the largest part, and grows with the distance from the anchor as an
    error of scale does.
    """
    _, found, scale = solved[0]
    along = np.array(
        [
            np.sqrt((d := T[:3, 3] - found.T_map_cam[0, :3, 3]) @ c[:3, :3] @ d)
            / np.linalg.norm(d)
            for T, c in zip(found.T_map_cam[1:], pose_covariances(found, scale)[1:])
        ]
    )
    distance = np.linalg.norm(found.T_map_cam[1:, :3, 3] - found.T_map_cam[0, :3, 3], axis=1)
    assert 0.002 < scale.sigma < 0.2
    np.testing.assert_allclose(along[5:], scale.sigma * distance[5:], rtol=0.5)
    ends = np.array(
        [
            np.linalg.norm(found.T_map_cam[-1, :3, 3] - found.T_map_cam[0, :3, 3])
            for _, found, _ in solved
        ]
    )
    off = ends / np.linalg.norm(solved[0][0][-1, :3, 3] - solved[0][0][0, :3, 3]) - 1
    low, high = chi2.ppf((0.001, 0.999), DRAWS)
    assert low < np.square(off / [scale.sigma for _, _, scale in solved]).sum() < 1.3 * high


def test_loops_come_into_the_scale_and_the_poses_of_the_bundle(solved):
    """Loops were measured by depth that was 20 % too short; the bundle knows better. One of them
    is wrong by 10 cm all the same.
    """
    T, found, scale = solved[0]
    poses = StoredPoses(np.arange(100, 100 + COUNT), np.arange(COUNT), T, [None] * COUNT)

    def loop(i, j, accepted=True, off=0.0):
        motion = (
            se3.inverse(found.T_map_cam[i]) @ found.T_map_cam[j] @ se3.exp([off, 0, 0, 0, 0, 0])
        )
        motion[:3, 3] *= 0.8
        measured = (motion, np.diag([1e4] * 3 + [1e6] * 3)) if accepted else (None, None)
        return Loop(
            100 + i,
            100 + j,
            accepted,
            "" if accepted else "few matches",
            "proximity",
            50,
            *measured,
            0.5,
            0.1,
        )

    closing = Closing(
        T,
        np.tile(np.eye(6), (COUNT, 1, 1)),
        (loop(9, 2), loop(12, 4, off=0.1), loop(5, 1, False)),
        {"loop_residual_m": 0.5, "a": 1},
    )
    depth = [np.zeros(200, np.float32) for _ in range(COUNT)]
    observations = found.observations
    for image, keypoint, point in zip(
        observations.image, observations.keypoint, found.points[observations.track]
    ):
        depth[image][keypoint] = (
            0.8 * se3.transform_points(se3.inverse(found.T_map_cam[image]), point)[2]
        )
    growth = depth_growth(found, [CAMERA] * COUNT, depth)
    np.testing.assert_allclose(growth, 1.25, rtol=1e-5)
    after = in_poses_of(closing, poses, found, scale, growth)
    np.testing.assert_array_equal(after.T_map_cam, found.T_map_cam)
    right, wrong, rejected = after.loops
    np.testing.assert_allclose(
        right.T_source_target, se3.inverse(found.T_map_cam[9]) @ found.T_map_cam[2], atol=1e-5
    )
    np.testing.assert_allclose(np.diag(right.information), [1e4 / 1.25**2] * 3 + [1e6] * 3)
    assert (
        right.residual_m < 1e-4
        and wrong.residual_m == pytest.approx(0.1, rel=1e-3)
        and rejected == closing.loops[2]
    )
    assert after.report["a"] == 1 and after.report["loop_residual_m"] == pytest.approx(
        (right.residual_m + wrong.residual_m) / 2
    )
    assert after.report["scale_sigma"] == scale.sigma


def test_depth_that_nothing_says_more_of_is_as_it_was():
    nothing = Observations(*(np.zeros(0, int),) * 3, np.zeros((0, 2)))
    found = SimpleNamespace(
        observations=nothing, T_map_cam=np.tile(np.eye(4), (3, 1, 1)), points=np.zeros((0, 3))
    )
    np.testing.assert_array_equal(depth_growth(found, [CAMERA] * 3, [np.zeros(4)] * 3), [1, 1, 1])


def test_a_point_that_no_camera_sees_any_more_costs_no_covariance():
    """It lies behind its cameras, where nothing pulls it back: the system of all points would be
    singular.
    """
    T, points = walk()
    observations = seen(T, points, np.random.default_rng(0), bundle.PIXEL_SIGMA)
    start, _angle = triangulate(observations, [CAMERA] * COUNT, T)
    astray = int(np.argmax(np.bincount(observations.track)))
    start[astray] = se3.transform_points(START, np.array([[1.0, 0.0, -3.0]]))[0]
    noise = np.tile(np.diag(STEP**2), (COUNT, 1, 1))

    def covariances(points):
        graph = pose_graph.build(T, noise, [], PoseGraphConfig(), 0)
        solved, points, problem = bundle._solve(
            graph, T, points, observations, [CAMERA] * COUNT, 5
        )
        assert (
            problem[0].size()
            == COUNT
            + len(observations.track)
            - (len(points) - len(problem[2])) * np.bincount(observations.track)[astray]
        )
        return pose_covariances(bundle.Bundle(solved, observations, points, 1.0, problem), None)

    whole, less = (
        covariances(triangulate(observations, [CAMERA] * COUNT, T)[0]),
        covariances(start),
    )
    ratio = np.trace(less[-1]) / np.trace(whole[-1])
    assert 0.99 < ratio < 1.2


def test_a_point_is_placed_where_its_observations_say_so():
    T, points = walk()
    observations = seen(T, points, np.random.default_rng(0), 0.0)
    points, _ = triangulate(observations, [CAMERA] * COUNT, T)
    points[0] = T[0, :3, 3] - 5 * T[0, :3, 2]  # behind
    points[1] = T[0, :3, 3] + 1e6 * (points[1] - T[0, :3, 3])  # at infinity
    points[2] = np.nan
    known = bundle.placed(observations, [CAMERA] * COUNT, T, points)
    assert not known[:3].any() and known[3:].all()
