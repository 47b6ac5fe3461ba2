"""Camera poses from points and pixels (PnP): a robust first pose, and the Gauss-Newton iteration
by which it is refined.
"""

from collections.abc import Callable

import numpy as np
import poselib

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

LEAST = 4  # points that tell a pose: three, and one to choose among its solutions

# T -> residuals (M, K), their Jacobians (M, K, 6) by exp(step) @ T, weights (M,)
Linearize = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def ransac(
    pixels: np.ndarray,
    points: np.ndarray,
    camera: Camera,
    threshold: float,
    kernel: float,
    iterations: tuple[int, int],
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return T_cam_points (4, 4) and a mask (M,) of what agrees with it within `threshold` px, by
    P3P with local optimization (LO-RANSAC, PoseLib); None where fewer than four agree.

    pixels (M, 2) of the undistorted camera; points (M, 3) metres. kernel: scale of the Cauchy
    kernel of the local optimization, px. iterations: fewest and most.
    """
    if len(pixels) < LEAST:
        return None, np.zeros(len(pixels), bool)
    pose, info = poselib.estimate_absolute_pose(
        pixels,
        points,
        camera.pinhole,
        {
            "max_reproj_error": threshold,
            "min_iterations": iterations[0],
            "max_iterations": iterations[1],
            "seed": 0,
        },
        {"loss_type": "CAUCHY", "loss_scale": kernel},
    )
    inliers = np.array(info["inliers"], bool)
    if info["num_inliers"] < LEAST:
        return None, inliers
    return se3.from_rotation_translation(pose.R, pose.t), inliers


def gauss_newton(
    T: np.ndarray, linearize: Linearize, iterations: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return T (4, 4) and the normal matrix (6, 6) of the last step. A step below `tolerance`
    (metres and radians) is the last one.

    Weights are computed anew in each step: iteratively re-weighted least squares.
    """
    hessian = np.zeros((6, 6))
    for _ in range(iterations):
        residuals, jacobians, weights = linearize(T)
        flat = jacobians.reshape(-1, 6)
        weighted = (flat * np.repeat(weights, residuals.shape[1])[:, None]).T
        hessian, gradient = weighted @ flat, weighted @ residuals.ravel()
        step = -np.linalg.solve(hessian + 1e-9 * np.eye(6), gradient)
        T = se3.orthonormalize(se3.exp(step) @ T)
        if np.abs(step).max() < tolerance:
            break
    return T, hessian


def motion_jacobian(points: np.ndarray) -> np.ndarray:
    """Return the derivatives (M, 3, 6) of exp(step) @ points (M, 3) by the step: [I, -[p]x]."""
    x, y, z = points.T
    out = np.zeros((len(points), 3, 6))
    out[:, :, :3] = np.eye(3)
    out[:, 0, 4], out[:, 0, 5] = z, -y
    out[:, 1, 3], out[:, 1, 5] = -z, x
    out[:, 2, 3], out[:, 2, 4] = y, -x
    return out
