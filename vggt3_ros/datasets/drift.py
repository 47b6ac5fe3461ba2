"""Odometry with the drift of a front end, generated from true poses."""

import numpy as np
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3

_BIAS_SHARE = 0.5  # constant bias, as a share of the noise's standard deviation


def drifting_odometry(
    T_world_cam: np.ndarray, seed: int = 0, ate: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """Add a random walk and a bias to every motion of T_world_cam (N, 4, 4), N >= 3, scaled so
    that the trajectory error is `ate`.

    ate: RMS position error in metres after the best rigid alignment (evo_ape -a). Return
    T_odom_cam (N, 4, 4), whose first pose lies above the origin and looks along x, and the (N, 6,
    6) covariances of the motions, in the frame of the keyframe that each leads to
    (Keyframe.odometry_covariance). Raise ValueError for fewer than 3 poses, or if the camera does
    not move.
    """
    T_world_cam = np.asarray(T_world_cam, float)
    if len(T_world_cam) < 3:
        raise ValueError(
            f"drifting odometry needs at least 3 poses for its error to be defined, got {len(T_world_cam)}"
        )
    rng = np.random.default_rng([seed, 2])
    motions = se3.inverse(T_world_cam[:-1]) @ T_world_cam[1:]
    length, angle = np.linalg.norm(motions[:, :3, 3], axis=-1), se3.rotation_angle(motions)
    if length.sum() < 1e-3:
        raise ValueError("the camera does not move: there is no motion to add drift to")
    deviation = np.concatenate(
        [
            np.repeat((0.002 + 0.015 * length + 0.01 * angle)[:, None], 3, axis=1),
            np.repeat((0.0005 + 0.006 * length + 0.006 * angle)[:, None], 3, axis=1),
        ],
        axis=1,
    )
    bias = _BIAS_SHARE * rng.standard_normal(6)
    unit = deviation * (rng.standard_normal(deviation.shape) + bias)

    low, high = 0.0, 1.0
    while trajectory_error(_chain(T_world_cam[0], motions, high * unit), T_world_cam) < ate:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        below = trajectory_error(_chain(T_world_cam[0], motions, middle * unit), T_world_cam) < ate
        low, high = (middle, high) if below else (low, middle)
    drifted = _chain(T_world_cam[0], motions, high * unit)

    variance = (high * deviation) ** 2 * (1 + _BIAS_SHARE**2)
    variance = np.concatenate([variance[:1], variance])
    covariances = np.zeros((len(T_world_cam), 6, 6))
    covariances[:, np.arange(6), np.arange(6)] = variance
    return _odom_from_world(T_world_cam[0]) @ drifted, covariances


def trajectory_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the RMS distance in metres between positions of (N, 4, 4) poses after the best rigid
    alignment.
    """
    a, b = (poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0) for poses in (estimate, truth))
    _, residual = Rotation.align_vectors(b, a)
    return float(residual / np.sqrt(len(a)))


def _chain(start: np.ndarray, motions: np.ndarray, twists: np.ndarray) -> np.ndarray:
    """Concatenate motions (N, 4, 4), each followed by a twist (N, 6), to poses (N + 1, 4, 4)."""
    poses = [start]
    for motion, noise in zip(motions, se3.exp(twists)):
        poses.append(poses[-1] @ motion @ noise)
    return se3.orthonormalize(np.array(poses))


def _odom_from_world(T_world_cam: np.ndarray) -> np.ndarray:
    """Return T_odom_world: the odometry frame is upright like the world, below the first camera,
    with its x axis along the viewing direction.
    """
    forward = T_world_cam[:3, 2]
    yaw = np.arctan2(forward[1], forward[0])
    position = T_world_cam[:3, 3] * (1, 1, 0)
    return se3.inverse(
        se3.from_rotation_translation(Rotation.from_euler("z", yaw).as_matrix(), position)
    )
