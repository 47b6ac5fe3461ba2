"""A camera pose from points and pixels: every point weighed by how well it is known, and an honest covariance."""

from dataclasses import dataclass

import numpy as np
import poselib

from vggt3_ros.geometry import se3

PIXEL_SIGMA = 0.5
ITERATIONS = 10
CORRELATION = 20.0  # neighbouring points err alike (one depth image, one network): this many count as one


@dataclass(frozen=True, eq=False)
class RefinedPose:
    """T_cam_map (4, 4); covariance (6, 6) of T_map_cam in map axes, x y z rotX rotY rotZ; inliers (M,) mask; median error, px."""

    T_cam_map: np.ndarray
    covariance: np.ndarray
    inliers: np.ndarray
    reprojection_px: float


def ransac(pixels, points, camera, threshold):
    """P3P with local optimization -> (T_map_cam, how many agree within `threshold` px)."""
    if len(pixels) < 4:
        return np.eye(4), 0
    options = {"max_reproj_error": threshold, "max_iterations": 1000, "min_iterations": 60, "seed": 0}
    pose, info = poselib.estimate_absolute_pose(pixels, points, camera.pinhole, options, {"loss_type": "CAUCHY", "loss_scale": threshold / 4})
    return se3.inverse(se3.from_rotation_translation(pose.R, pose.t)), int(info["num_inliers"])


def refine(T_cam_map, camera, pixels, points, sigma, threshold):
    """Iteratively re-weighted Gauss-Newton (Cauchy) on reprojection errors from T_cam_map (4, 4).

    pixels (M, 2), points (M, 3) metres in map, sigma (M,) metres: standard deviation of a point, which its distance turns into
    pixels. threshold: pixels within which a point counts as inlier.
    """
    for _ in range(ITERATIONS):
        error, jacobian, deviation = _linearize(T_cam_map, camera, pixels, points, sigma)
        weight = 1 / (deviation**2 + np.sum(error**2, axis=1))
        flat = jacobian.reshape(-1, 6)
        weighted = (flat * np.repeat(weight, 2)[:, None]).T
        hessian, gradient = weighted @ flat, weighted @ error.ravel()
        step = -np.linalg.solve(hessian + 1e-9 * np.eye(6), gradient)
        T_cam_map = se3.orthonormalize(se3.exp(step) @ T_cam_map)
        if np.abs(step).max() < 1e-7:
            break
    error, jacobian, deviation = _linearize(T_cam_map, camera, pixels, points, sigma)
    size = np.linalg.norm(error, axis=1)
    inliers = size < threshold
    return RefinedPose(T_cam_map, _covariance(T_cam_map, error, jacobian, deviation, inliers), inliers,
                       float(np.median(size[inliers])) if inliers.any() else float("inf"))


def _linearize(T_cam_map, camera, pixels, points, sigma):
    moved = se3.transform_points(T_cam_map, points)
    z = np.maximum(moved[:, 2], 0.05)
    error = camera.project(np.column_stack([moved[:, :2], z])) - pixels
    by_point = np.zeros((len(z), 2, 3))
    by_point[:, 0, 0], by_point[:, 0, 2] = camera.fx / z, -camera.fx * moved[:, 0] / z**2
    by_point[:, 1, 1], by_point[:, 1, 2] = camera.fy / z, -camera.fy * moved[:, 1] / z**2
    cross = np.zeros((len(z), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -moved[:, 2], moved[:, 1], -moved[:, 0]
    cross -= np.swapaxes(cross, 1, 2)
    jacobian = by_point @ np.concatenate([np.broadcast_to(np.eye(3), (len(z), 3, 3)), -cross], axis=2)
    return error, jacobian, np.sqrt(PIXEL_SIGMA**2 + np.square(sigma * camera.fx / z))


def _covariance(T_cam_map, error, jacobian, deviation, inliers):
    """Sandwich of the robust estimate, scaled by the residuals really seen, moved to the map's axes at the camera."""
    if inliers.sum() < 6:
        return np.diag([1e3] * 3 + [1e1] * 3)
    error, jacobian, deviation = error[inliers], jacobian[inliers], deviation[inliers]
    whitened = (jacobian / deviation[:, None, None]).reshape(-1, 6)
    hessian = whitened.T @ whitened
    variance = max(1e-4, float(np.mean((error / deviation[:, None]) ** 2)))
    left = np.linalg.inv(hessian + 1e-9 * np.eye(6)) * variance * CORRELATION
    # T_cam_map' = exp(step) T_cam_map moves the camera's centre by -R^T (t_step - [t] w) and turns the map's axes by -R^T w.
    R, t = T_cam_map[:3, :3], T_cam_map[:3, 3]
    skew = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    adjoint = np.zeros((6, 6))
    adjoint[:3, :3], adjoint[:3, 3:], adjoint[3:, 3:] = -R.T, -R.T @ skew, -R.T
    return adjoint @ left @ adjoint.T
