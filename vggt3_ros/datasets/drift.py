"""Odometry that drifts as a front end's does, made from true poses."""

import numpy as np
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3

_BIAS_SHARE = 0.5  # of the noise's deviation: what stays the same from step to step


def drifting_odometry(T_world_cam, seed=0, ate=0.35):
    """Random walk and bias on every motion of T_world_cam (N, 4, 4), N >= 3, scaled so that the
    trajectory's error is `ate`.

    ate: root mean square position error in metres after the best rigid alignment (what evo_ape -a
    reports). Returns T_odom_cam (N, 4, 4), which starts above its own origin and looks along x,
    and (N, 6, 6) covariances of each motion in the frame of the keyframe it leads to
    (Keyframe.odometry_covariance). Raises ValueError when the camera does not move.
    """
    T_world_cam = np.asarray(T_world_cam, float)
    if len(T_world_cam) < 3:
        raise ValueError(
            f"odometry needs at least 3 poses to have an error after alignment, got {len(T_world_cam)}"
        )
    rng = np.random.default_rng([seed, 2])
    motions = se3.inverse(T_world_cam[:-1]) @ T_world_cam[1:]
    length, angle = np.linalg.norm(motions[:, :3, 3], axis=-1), se3.rotation_angle(motions)
    if length.sum() < 1e-3:
        raise ValueError("the camera does not move: there is no odometry to drift")
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


def trajectory_error(estimate, truth):
    """Root mean square distance, metres, between positions (N, 4, 4) after the best rigid
    alignment.
    """
    a, b = (poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0) for poses in (estimate, truth))
    _, residual = Rotation.align_vectors(b, a)
    return float(residual / np.sqrt(len(a)))


def _chain(start, motions, twists):
    poses = [start]
    for motion, noise in zip(motions, se3.exp(twists)):
        poses.append(poses[-1] @ motion @ noise)
    return se3.orthonormalize(np.array(poses))


def _odom_from_world(T_world_cam):
    """A frame upright like the world, below the first camera, its x axis where that looks."""
    forward = T_world_cam[:3, 2]
    yaw = np.arctan2(forward[1], forward[0])
    position = T_world_cam[:3, 3] * (1, 1, 0)
    return se3.inverse(
        se3.from_rotation_translation(Rotation.from_euler("z", yaw).as_matrix(), position)
    )
