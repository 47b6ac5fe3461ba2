"""Estimate a camera pose from points and pixels. Weights each point by its uncertainty; returns a
realistic covariance.
"""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import pnp, se3
from vggt3_ros.geometry.camera import Camera

PIXEL_SIGMA = 0.5
ITERATIONS = 10
NEAREST_M = 0.05  # points closer to the image plane, or behind it, are ignored
# standard deviation of the error common to all points, per (misfit * `alike`)
COMMON = 0.45
PARTS = 4  # per image side; errors of points in one part are assumed correlated


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """T_cam_map (4, 4). covariance (6, 6) of T_map_cam in map axes, x y z rotX rotY rotZ. inliers
    (M,) mask. Over the inliers: reprojection_px, median error; alike, the variance inflation due
    to correlated errors (at least 1); depth, median, metres.
    """

    T_cam_map: np.ndarray
    covariance: np.ndarray
    inliers: np.ndarray
    reprojection_px: float
    alike: float
    depth: float

    def uncertainty(self, camera: Camera) -> np.ndarray:
        """Return `covariance` (6, 6) plus the error that the points cannot reveal.

        The map itself is deformed: everything visible at once shares errors of depth, registration
        and keyframe poses. This term grows with the misfit and with the correlation of
        neighbouring errors. The factor COMMON was fitted on the real kitchen and on EuRoC V1_01;
        it also holds on data that it was not fitted on.
        """
        shared = COMMON * self.alike * self.reprojection_px * self.depth / camera.fx
        return self.covariance + shared**2 * np.diag([1, 1, 1] + [1 / self.depth**2] * 3)


def ransac(
    pixels: np.ndarray, points: np.ndarray, camera: Camera, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate a pose by P3P with local optimization (PoseLib).

    pixels (M, 2), points (M, 3) metres in map. Returns (T_map_cam (4, 4), mask (M,) of the points
    within `threshold` pixels); the identity and an empty mask for fewer than four points.
    """
    T_cam_map, inliers = pnp.ransac(pixels, points, camera, threshold, threshold / 4, (60, 1000))
    return np.eye(4) if T_cam_map is None else se3.inverse(T_cam_map), inliers


def refine(
    T_cam_map: np.ndarray,
    camera: Camera,
    pixels: np.ndarray,
    points: np.ndarray,
    sigma: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
) -> RefinedPose:
    """Refine T_cam_map (4, 4) by iteratively reweighted Gauss-Newton (Cauchy) on reprojection
    errors.

    pixels (M, 2); points (M, 3), metres in map; sigma (M,), metres: standard deviation of each
    point, converted to pixels by its depth. threshold: pixels within which a point counts as an
    inlier. groups (M,) int: points whose errors may be correlated, such as those measured by one
    keyframe; by default those in one part of the image. Points behind the camera do not
    contribute. A robust kernel tolerates only few outliers: where there may be many, pass the
    inliers of :func:`ransac`.
    """

    def weighed(T: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        error, jacobian, deviation, ahead = _linearize(T, camera, pixels, points, sigma)
        return error, jacobian, ahead / (deviation**2 + np.sum(error**2, axis=1))

    T_cam_map, _ = pnp.gauss_newton(np.array(T_cam_map, float), weighed, ITERATIONS, 1e-7)
    error, jacobian, deviation, ahead = _linearize(T_cam_map, camera, pixels, points, sigma)
    size = np.linalg.norm(error, axis=1)
    inliers = ahead & (size < threshold)
    if inliers.sum() < 6:
        depth = (
            1.0
            if not inliers.any()
            else float(np.median(se3.transform_points(T_cam_map, points[inliers])[:, 2]))
        )
        return RefinedPose(
            T_cam_map, np.diag([1e3] * 3 + [1e1] * 3), inliers, float("inf"), 1.0, depth
        )
    groups = _parts(pixels, camera) if groups is None else groups
    error, jacobian, deviation = error[inliers], jacobian[inliers], deviation[inliers]
    alike = _alike(error / (deviation**2 + np.sum(error**2, axis=1))[:, None], groups[inliers])
    return RefinedPose(
        T_cam_map,
        alike * _covariance(T_cam_map, error, jacobian, deviation),
        inliers,
        float(np.median(size[inliers])),
        alike,
        float(np.median(se3.transform_points(T_cam_map, points[inliers])[:, 2])),
    )


def _linearize(
    T_cam_map: np.ndarray,
    camera: Camera,
    pixels: np.ndarray,
    points: np.ndarray,
    sigma: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return errors (M, 2) px, Jacobians (M, 2, 6) with respect to exp(step) @ T_cam_map,
    deviations (M,) px, and the mask (M,) of points in front of the camera. For the other points
    errors and Jacobians are zero, deviations one.
    """
    moved = se3.transform_points(T_cam_map, points)
    ahead = moved[:, 2] > NEAREST_M
    moved = np.where(ahead[:, None], moved, (0.0, 0.0, 1.0))
    z = moved[:, 2]
    error = np.where(ahead[:, None], camera.project(moved) - pixels, 0.0)
    jacobian = camera.projection_jacobian(moved) @ pnp.motion_jacobian(moved)
    jacobian[~ahead] = 0.0
    return (
        error,
        jacobian,
        np.where(ahead, np.sqrt(PIXEL_SIGMA**2 + np.square(sigma * camera.fx / z)), 1.0),
        ahead,
    )


def _covariance(
    T_cam_map: np.ndarray, error: np.ndarray, jacobian: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    """Return the (6, 6) covariance for independent inliers weighted as in :func:`refine`, in map
    axes at the camera.

    Huber's sandwich formula for M-estimators: the scatter of the gradients between two inverses of
    the kernel's curvature.
    """
    squared = np.sum(error**2, axis=1)
    weight = 1 / (deviation**2 + squared)
    whitened = jacobian * np.sqrt(weight)[:, None, None]
    flat = whitened.reshape(-1, 6)
    bend = jacobian * weight[:, None, None]
    pull = np.einsum("mij,mi->mj", bend, error)
    # Cauchy kernel: the influence of outliers decreases
    curvature = flat.T @ flat - 2 * pull.T @ pull
    inverse = np.linalg.inv(_positive(curvature, flat.T @ flat))
    # residuals underestimate errors by the six fitted parameters
    left = inverse @ (pull.T @ pull) @ inverse * (len(error) / max(1, len(error) - 6)) ** 2
    left = left + 1e-14 * np.eye(6)
    # exp(step) @ T_cam_map with SO(3) x R^3 moves the camera's centre by -R^T v and rotates its
    # axes in the map by -R^T w.
    turn = np.kron(np.eye(2), -T_cam_map[:3, :3].T)
    covariance: np.ndarray = turn @ left @ turn.T
    return covariance


def _positive(curvature: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Return the curvature if it is safely positive definite, else the Gauss-Newton approximation.

    Far from a minimum the curvature of a robust kernel is not positive definite.
    """
    scaled = np.linalg.eigvals(np.linalg.solve(fallback + 1e-9 * np.eye(6), curvature)).real
    return (curvature if scaled.min() > 0.2 else fallback) + 1e-9 * np.eye(6)


def _alike(pulls: np.ndarray, groups: np.ndarray) -> float:
    """Return the ratio between the variance of sums over groups (M,) of points and the variance
    for independent errors (M, 2); at least 1.
    """
    sums = np.stack([np.bincount(groups, pulls[:, axis]) for axis in range(2)])
    return max(1.0, float((sums**2).sum() / max((pulls**2).sum(), 1e-12)))


def _parts(pixels: np.ndarray, camera: Camera) -> np.ndarray:
    """Return (M,) the index of the image part that each pixel lies in."""
    column, row = (
        np.clip(pixels * PARTS / (camera.width, camera.height), 0, PARTS - 1).astype(int).T
    )
    part: np.ndarray = row * PARTS + column
    return part
