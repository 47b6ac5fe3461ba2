"""A camera pose from points and pixels: every point weighed by how well it is known, and an honest
covariance.
"""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import pnp, se3

PIXEL_SIGMA = 0.5
ITERATIONS = 10
NEAREST_M = 0.05  # a point nearer to the image plane, or behind it, tells nothing
# standard deviation of what is common to all points, as a share of misfit times likeness
COMMON = 0.45
PARTS = 4  # of the image, along each side: points in one part err alike where points do


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """T_cam_map (4, 4); covariance (6, 6) of T_map_cam in map axes, x y z rotX rotY rotZ; inliers
    (M,) mask. Of the inliers: reprojection_px, median error; alike, how many err as one; depth,
    median, metres.
    """

    T_cam_map: np.ndarray
    covariance: np.ndarray
    inliers: np.ndarray
    reprojection_px: float
    alike: float
    depth: float

    def uncertainty(self, camera):
        """(6, 6) as `covariance`, with what the points do not tell: the map itself is bent by what
        all that is seen at once has in common (depth, registration, poses of keyframes). It grows
        with the misfit and with how much neighbours err alike.

        The factor was fitted on the real kitchen and on EuRoC's V1_01; it holds on sets that it
        was not fitted on.
        """
        shared = COMMON * self.alike * self.reprojection_px * self.depth / camera.fx
        return self.covariance + shared**2 * np.diag([1, 1, 1] + [1 / self.depth**2] * 3)


def ransac(pixels, points, camera, threshold):
    """P3P with local optimization (PoseLib) -> (T_map_cam (4, 4), mask (M,) of what agrees within
    `threshold` px).
    """
    T_cam_map, inliers = pnp.ransac(pixels, points, camera, threshold, threshold / 4, (60, 1000))
    return np.eye(4) if T_cam_map is None else se3.inverse(T_cam_map), inliers


def refine(T_cam_map, camera, pixels, points, sigma, threshold, groups=None):
    """Iteratively re-weighted Gauss-Newton (Cauchy) on reprojection errors from T_cam_map (4, 4)
    -> RefinedPose.

    pixels (M, 2), points (M, 3) metres in map, sigma (M,) metres: standard deviation of a point,
    which its distance turns into pixels. threshold: pixels within which a point counts as inlier.
    groups (M,) int: points that may err alike, as those that one keyframe measured; by default
    those in one part of the image. Points behind the camera have no image: they pull nowhere. A
    robust kernel forgives few outliers: where there may be many, give the inliers of
    :func:`ransac`.
    """

    def weighed(T):
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


def _linearize(T_cam_map, camera, pixels, points, sigma):
    """Errors (M, 2) px, Jacobians (M, 2, 6) by exp(step) @ T_cam_map, deviations (M,) px, mask
    (M,) of the points before the camera; all zero (deviations one) for the others.
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


def _covariance(T_cam_map, error, jacobian, deviation):
    """Of the estimate that weighs independent inliers as :func:`refine` does (Huber's formula for
    M-estimators: the inverse of the kernel's curvature on both sides of the scatter of the
    gradients), in the map's axes at the camera.
    """
    squared = np.sum(error**2, axis=1)
    weight = 1 / (deviation**2 + squared)
    whitened = jacobian * np.sqrt(weight)[:, None, None]
    flat = whitened.reshape(-1, 6)
    bend = jacobian * weight[:, None, None]
    pull = np.einsum("mij,mi->mj", bend, error)
    # of the Cauchy kernel: what lies far out pulls less and less
    curvature = flat.T @ flat - 2 * pull.T @ pull
    inverse = np.linalg.inv(_positive(curvature, flat.T @ flat))
    # residuals are smaller than errors
    left = inverse @ (pull.T @ pull) @ inverse * (len(error) / max(1, len(error) - 6)) ** 2
    left = left + 1e-14 * np.eye(6)
    # exp(step) @ T_cam_map with SO(3) x R^3 moves the camera's centre by -R^T v and turns its axes
    # in the map by -R^T w.
    turn = np.kron(np.eye(2), -T_cam_map[:3, :3].T)
    return turn @ left @ turn.T


def _positive(curvature, fallback):
    """The curvature where it is safely positive; far from a minimum it is not, and the
    Gauss-Newton one is taken.
    """
    scaled = np.linalg.eigvals(np.linalg.solve(fallback + 1e-9 * np.eye(6), curvature)).real
    return (curvature if scaled.min() > 0.2 else fallback) + 1e-9 * np.eye(6)


def _alike(pulls, groups):
    """How many times larger the variance of sums over groups (M,) of points is than independent
    errors (M, 2) would make it; at least 1.
    """
    sums = np.stack([np.bincount(groups, pulls[:, axis]) for axis in range(2)])
    return max(1.0, float((sums**2).sum() / max((pulls**2).sum(), 1e-12)))


def _parts(pixels, camera):
    column, row = (
        np.clip(pixels * PARTS / (camera.width, camera.height), 0, PARTS - 1).astype(int).T
    )
    return row * PARTS + column
