"""Measure the relative pose of two keyframes from matches and their depth: P3P RANSAC, then a
refinement that uses both depths.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from vggt3_ros.geometry import pnp, se3
from vggt3_ros.geometry.camera import Camera

PIXEL_SIGMA = 1.0  # error of a keypoint, pixels
# relative error of a depth reading: what sensor and registration leave at 1-4 m
DEPTH_SIGMA = 0.01
# Errors of neighbouring matches are correlated: this many count as one independent measurement.
CORRELATION = 8.0
# Errors that neighbouring matches share (registration, calibration) bias a motion unnoticed. Its
# standard deviation is at least SYSTEMATIC times the disagreement in depth of parts of the image,
# at TYPICAL_MATCHES inliers; its variance is in inverse proportion to the number of inliers.
SYSTEMATIC = 4.5
TYPICAL_MATCHES = 100.0
PARTS = 4  # of the image, along each side
# Cauchy scale once the motion is nearly known, pixels. True matches agree to half a pixel after
# patch alignment; with a scale of 3 px slightly wrong ones doubled the error of the motion
# (rendered views: 2.7 -> 1.2 mm, 0.067 -> 0.029 deg).
KERNEL_PX = 0.5
SETTLING = 4  # iterations with the wide kernel, before those with KERNEL_PX
ITERATIONS = 12


@dataclass(frozen=True, eq=False)
class View:
    """One side of the matches: pixels (M, 2) x y, depth (M,) metres along z (0 = unknown), and the
    camera, without distortion.
    """

    camera: Camera
    pixels: np.ndarray
    depth: np.ndarray

    @cached_property
    def points(self) -> np.ndarray:
        """(M, 3) metres in the camera frame."""
        points: np.ndarray = self.camera.unproject(self.pixels, self.depth)
        return points


@dataclass(frozen=True, eq=False)
class RelativePose:
    """T_source_target (4, 4). information (6, 6): of the target's motion in its own frame, x y z
    rotX rotY rotZ. inliers (M,): mask. reprojection_px: median over the inliers.
    """

    T_source_target: np.ndarray
    information: np.ndarray
    inliers: np.ndarray
    reprojection_px: float


def estimate(
    source: View,
    target: View,
    threshold: float,
    minimum_inliers: int,
    T_source_target: np.ndarray | None = None,
) -> RelativePose | None:
    """Estimate the motion between two Views of the same matches. Return None when fewer than
    `minimum_inliers` agree within `threshold` px.

    T_source_target (4, 4): where to start, if it is nearly known. Without it RANSAC finds a start
    and the refinement is a coarse one.
    """
    known = source.depth > 0
    if known.sum() < max(4, minimum_inliers // 2):
        return None
    # (kernel, iterations, step that ends them)
    passes = [(threshold, SETTLING, 0.0), (KERNEL_PX, ITERATIONS - SETTLING, 1e-5)]
    if T_source_target is None:
        passes = passes[:1]  # enough for the caller to find more matches
        T_target_source, _ = pnp.ransac(
            target.pixels[known], source.points[known], target.camera, threshold, 1.0, (50, 2000)
        )
        if T_target_source is None:
            return None
    else:
        T_target_source = se3.inverse(T_source_target)
    for kernel, iterations, tolerance in passes:
        linearize = partial(_linearize, source=source, target=target, kernel=kernel)
        T_target_source, hessian = pnp.gauss_newton(
            T_target_source, linearize, iterations, tolerance
        )
    error = _reprojection(T_target_source, source, target)
    inliers = error < threshold
    if inliers.sum() < minimum_inliers:
        return None
    information = _trusted(
        hessian / CORRELATION,
        T_target_source,
        source,
        target,
        inliers,
        float(np.median(error[inliers])),
    )
    return RelativePose(
        se3.inverse(T_target_source), information, inliers, float(np.median(error[inliers]))
    )


def _trusted(
    information: np.ndarray,
    T_target_source: np.ndarray,
    source: View,
    target: View,
    inliers: np.ndarray,
    reprojection_px: float,
) -> np.ndarray:
    """Reduce the information (6, 6), which counts independent errors only, by the errors that all
    matches share.
    """
    depth = np.where(target.depth > 0, target.depth, source.depth)[inliers]
    distance = float(np.median(depth))
    misfit = reprojection_px * distance / target.camera.fx
    both = inliers & (source.depth > 0) & (target.depth > 0)
    if both.sum() >= 10:
        apart = se3.transform_points(T_target_source, source.points[both]) - target.points[both]
        misfit = max(misfit, _shared_misfit(apart, target.pixels[both], target.camera))
    shared = (
        np.square(SYSTEMATIC * misfit)
        * TYPICAL_MATCHES
        / inliers.sum()
        * np.diag([1, 1, 1] + [1 / distance**2] * 3)
    )
    trusted: np.ndarray = np.linalg.inv(np.linalg.inv(information + 1e-6 * np.eye(6)) + shared)
    return trusted


def _shared_misfit(apart: np.ndarray, pixels: np.ndarray, camera: Camera) -> float:
    """Return the RMS offset, in metres, between whole parts of the image, given the disagreement
    (M, 3) of the two depths at pixels (M, 2).

    The noise of single pixels is subtracted, since it averages out over the matches. Counting it
    as shared made motions seem ten times as uncertain as they were with a well registered sensor
    (rendered views; apartment 0.94 -> 0.65 cm ATE, the same on real images).
    """
    length = np.linalg.norm(apart, axis=1)
    typical = float(np.median(length))
    near = length <= 4 * typical
    apart, pixels = apart[near], pixels[near]
    column, row = (
        (np.clip(pixels * PARTS / (camera.width, camera.height), 0, PARTS - 1)).astype(int).T
    )
    part = row * PARTS + column
    count = np.bincount(part, minlength=PARTS**2)
    mean = (
        np.stack([np.bincount(part, apart[:, axis], PARTS**2) for axis in range(3)], axis=1)
        / np.maximum(count, 1)[:, None]
    )
    scatter = np.bincount(part, ((apart - mean[part]) ** 2).sum(1), PARTS**2) / np.maximum(
        count - 1, 1
    )
    enough = count >= 3
    if not enough.any():
        return typical
    shared = (mean**2).sum(1) - scatter / np.maximum(count, 1)
    return float(np.sqrt(max(0.0, np.average(shared[enough], weights=count[enough]))))


def _reprojection(T_target_source: np.ndarray, source: View, target: View) -> np.ndarray:
    """Return the reprojection error (M,) in pixels by the depth that is known, or the smaller one
    where both are.
    """
    forward = np.linalg.norm(
        target.camera.project(se3.transform_points(T_target_source, source.points))
        - target.pixels,
        axis=1,
    )
    T_source_target = se3.inverse(T_target_source)
    backward = np.linalg.norm(
        source.camera.project(se3.transform_points(T_source_target, target.points))
        - source.pixels,
        axis=1,
    )
    return np.fmin(
        np.where(source.depth > 0, forward, np.inf), np.where(target.depth > 0, backward, np.inf)
    )


def _linearize(
    T_target_source: np.ndarray, source: View, target: View, kernel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return residuals (n, 3), Jacobians (n, 3, 6) for a left perturbation of T_target_source, and
    robust weights (n,).

    The residual of a point is the reprojection error (two rows, divided by its sigma) and the
    relative error of depth (third row, where the other depth is known).
    """
    rows = []
    T_source_target = se3.inverse(T_target_source)
    for transform, near, far, inverted in (
        (T_target_source, source, target, False),
        (T_source_target, target, source, True),
    ):
        known = near.depth > 0
        points = near.points[known]
        moved = se3.transform_points(transform, points)
        z = np.maximum(moved[:, 2], 1e-3)
        error = np.zeros((len(z), 3))
        error[:, :2] = (far.camera.project(moved) - far.pixels[known]) / PIXEL_SIGMA
        measured = far.depth[known]
        error[:, 2] = np.where(
            measured > 0, (moved[:, 2] - measured) / (DEPTH_SIGMA * np.maximum(measured, 1e-3)), 0
        )
        by_point = np.zeros((len(z), 3, 3))
        by_point[:, :2] = (
            far.camera.projection_jacobian(np.column_stack([moved[:, :2], z])) / PIXEL_SIGMA
        )
        by_point[:, 2, 2] = np.where(
            measured > 0, 1 / (DEPTH_SIGMA * np.maximum(measured, 1e-3)), 0
        )
        by_pose = pnp.motion_jacobian(points if inverted else moved)
        if inverted:  # T_source_target exp(-step): the point moves before the transform
            by_pose = -transform[:3, :3] @ by_pose
        cauchy = 1.0 / (1.0 + (error**2).sum(1) / (kernel / PIXEL_SIGMA) ** 2)
        behind = moved[:, 2] <= 0.05
        rows.append((error, by_point @ by_pose, np.where(behind, 0, cauchy)))
    return tuple(np.concatenate(parts) for parts in zip(*rows))
