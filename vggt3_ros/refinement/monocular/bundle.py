"""Bundle adjustment (GTSAM) of keyframe poses and track points, with scale fixed by the odometry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import gtsam
import numpy as np

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.monocular.tracks import Observations, reprojection, triangulate
from vggt3_ros.refinement.pose_graph import Edge

PIXEL_SIGMA = 1.0
KERNEL = 1.0  # Huber, in pixels
LEAST_ANGLE = np.radians(1.5)  # less parallax says nothing about depth
NEAREST = 0.01  # metres in front of a camera
# (pixels, iterations) of each round: observations with a larger error are left out
ROUNDS = ((40.0, 10), (12.0, 12), (4.0, 12), (2.5, 25))
PER_IMAGE = 250  # tracks per image that are enough; more only take time

Problem = tuple[gtsam.NonlinearFactorGraph, gtsam.Values, list[int]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """T_map_cam (N, 4, 4). observations: those that agree with points (tracks, 3), metres in the
    map. reprojection_px: their median error.

    problem: (graph, values, keys of the points) that the poses were solved from, without points
    that do not constrain them; None when the poses were given.
    """

    T_map_cam: np.ndarray
    observations: Observations
    points: np.ndarray
    reprojection_px: float
    problem: Problem | None = None


def adjust(
    T_odom_cam: np.ndarray,
    odometry_noise: np.ndarray,
    cameras: Sequence[Camera],
    observations: Observations,
    config: PoseGraphConfig,
    initial: np.ndarray | None = None,
    edges: Sequence[Edge] = (),
    progress: Callable[[float], object] | None = None,
    anchor: int = 0,
) -> Bundle:
    """Adjust keyframe poses and track points to minimize the reprojection error.

    T_odom_cam (N, 4, 4): odometry. odometry_noise (N, 6, 6): covariance of each step. cameras: N,
    without distortion. initial (N, 4, 4): poses to start from, the odometry by default; that of
    `anchor` is held fixed. edges: motions measured by other means. progress(fraction) is called
    after each round.

    Points are eliminated before poses (Schur complement), so the cost grows with the number of
    images that see the same points, not with the number of points. Outliers are found in rounds:
    observations with a large error are left out, then all points are triangulated again and the
    problem is solved again.
    """
    T_map_cam = np.array(T_odom_cam if initial is None else initial)
    for round_, (limit, iterations) in enumerate(ROUNDS):
        points, angle = triangulate(observations, cameras, T_map_cam)
        kept, points = _consistent(observations, cameras, T_map_cam, points, angle, limit)
        chosen, points = _spread(kept, points, len(T_map_cam))
        graph = pose_graph.build(T_odom_cam, odometry_noise, edges, config, anchor)
        T_map_cam, points, problem = _solve(graph, T_map_cam, points, chosen, cameras, iterations)
        if progress:
            progress((round_ + 1) / len(ROUNDS))
    return replace(triangulated(cameras, observations, T_map_cam), problem=problem)


def triangulated(
    cameras: Sequence[Camera], observations: Observations, T_map_cam: np.ndarray
) -> Bundle:
    """Return the Bundle of poses (N, 4, 4) that stay as they are."""
    points, angle = triangulate(observations, cameras, T_map_cam)
    kept, points = _consistent(observations, cameras, T_map_cam, points, angle, ROUNDS[-1][0])
    error, _ = reprojection(kept, cameras, T_map_cam, points)
    return Bundle(T_map_cam, kept, points, float(np.median(error)) if len(error) else float("nan"))


def _consistent(
    observations: Observations,
    cameras: Sequence[Camera],
    T_map_cam: np.ndarray,
    points: np.ndarray,
    angle: np.ndarray,
    limit: float,
) -> tuple[Observations, np.ndarray]:
    """Return the observations with less than `limit` pixels of error and enough parallax, and
    their points.
    """
    error, _ = reprojection(observations, cameras, T_map_cam, points)
    kept, tracks = observations.only((error < limit) & (angle[observations.track] > LEAST_ANGLE))
    return kept, points[tracks]


def _spread(
    observations: Observations, points: np.ndarray, images: int
) -> tuple[Observations, np.ndarray]:
    """Choose tracks, the longest first, until every image has PER_IMAGE of them."""
    length = np.bincount(observations.track, minlength=observations.tracks)
    order = np.argsort(-length, kind="stable")
    start = np.searchsorted(observations.track, np.arange(observations.tracks + 1))
    have, chosen = np.zeros(images, np.int64), np.zeros(observations.tracks, bool)
    for track in order:
        seen_by = observations.image[start[track] : start[track + 1]]
        if have[seen_by].min() < PER_IMAGE:
            have[seen_by] += 1
            chosen[track] = True
    kept, tracks = observations.only(chosen[observations.track])
    return kept, points[tracks]


def _solve(
    graph: gtsam.NonlinearFactorGraph,
    T_map_cam: np.ndarray,
    points: np.ndarray,
    observations: Observations,
    cameras: Sequence[Camera],
    iterations: int,
) -> tuple[np.ndarray, np.ndarray, Problem]:
    """Solve for poses and points; return both, and the Problem."""
    first = len(T_map_cam)  # the keys of points follow those of poses
    values = _values(T_map_cam, points)
    seen = _projections(observations, cameras, first)
    whole = gtsam.NonlinearFactorGraph(graph)
    for factor in seen:
        whole.add(factor)
    ordering = gtsam.Ordering()
    for key in [first + k for k in range(len(points))] + list(range(first)):
        ordering.push_back(key)
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(iterations)
    parameters.setRelativeErrorTol(1e-5)
    parameters.setOrdering(ordering)
    values = gtsam.LevenbergMarquardtOptimizer(whole, values, parameters).optimize()
    T_map_cam = se3.orthonormalize(np.array([values.atPose3(i).matrix() for i in range(first)]))
    points = np.array([values.atPoint3(first + k) for k in range(len(points))]).reshape(-1, 3)
    known = placed(observations, cameras, T_map_cam, points)
    for factor, track in zip(seen, observations.track):
        if known[track]:
            graph.add(factor)
    return T_map_cam, points, (graph, values, [first + int(k) for k in np.flatnonzero(known)])


def _values(T_map_cam: np.ndarray, points: np.ndarray) -> gtsam.Values:
    values = gtsam.Values()
    for i, pose in enumerate(T_map_cam):
        values.insert(i, gtsam.Pose3(se3.orthonormalize(pose)))
    for k, point in enumerate(points):
        values.insert(len(T_map_cam) + k, point)
    return values


def _projections(
    observations: Observations, cameras: Sequence[Camera], first: int
) -> list[gtsam.NonlinearFactor]:
    """Return a factor for each observation. `first` is the key of track 0."""
    calibration = {id(c): gtsam.Cal3_S2(c.fx, c.fy, 0, c.cx, c.cy) for c in cameras}
    noise = gtsam.noiseModel.Robust.Create(
        gtsam.noiseModel.mEstimator.Huber.Create(KERNEL),
        gtsam.noiseModel.Isotropic.Sigma(2, PIXEL_SIGMA),
    )
    return [
        gtsam.GenericProjectionFactorCal3_S2(
            pixel, noise, image, first + track, calibration[id(cameras[image])]
        )
        for track, image, pixel in zip(
            observations.track.tolist(), observations.image.tolist(), observations.pixels
        )
    ]


def placed(
    observations: Observations,
    cameras: Sequence[Camera],
    T_map_cam: np.ndarray,
    points: np.ndarray,
) -> np.ndarray:
    """Return the mask (tracks,) of points whose position is known: they are in front of every
    camera, and their standard deviation in any direction is less than their distance.

    Other points, which left the views while everything moved, would make the system singular and
    say nothing about the poses.
    """
    information, nearest = np.zeros((len(points), 3, 3)), np.full(len(points), np.inf)
    for i in np.unique(observations.image):
        of = observations.track[observations.image == i]
        T_cam_map = se3.inverse(T_map_cam[i])
        seen = se3.transform_points(T_cam_map, points[of])
        np.minimum.at(nearest, of, np.nan_to_num(seen[:, 2], nan=-np.inf))
        seen[:, 2] = np.maximum(seen[:, 2], NEAREST)
        jacobian = cameras[i].projection_jacobian(seen) @ T_cam_map[:3, :3] / PIXEL_SIGMA
        np.add.at(information, of, jacobian.swapaxes(1, 2) @ jacobian)
    ahead = (nearest > NEAREST) & np.isfinite(information).all((1, 2))
    least = np.zeros(len(points))
    least[ahead] = np.linalg.eigvalsh(information[ahead])[:, 0]
    known: np.ndarray = ahead & (least * np.where(ahead, nearest, 0.0) ** 2 > 1)
    return known
