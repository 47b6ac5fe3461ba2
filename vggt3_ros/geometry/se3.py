"""Rigid transforms as 4x4 float64 matrices named T_target_source: p_target = T_target_source @
p_source.

Arrays of transforms have shape (..., 4, 4). Quaternions are x y z w (as in ROS and TUM files).
Twists are (tx, ty, tz, rx, ry, rz): metres, then radians, the order of ROS covariances.
"""

import numpy as np
from scipy.spatial.transform import Rotation


def from_rotation_translation(rotation, translation):
    """(..., 3, 3) and (..., 3) -> (..., 4, 4)."""
    rotation, translation = np.asarray(rotation, float), np.asarray(translation, float)
    transform = np.zeros(np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]) + (4, 4))
    transform[..., :3, :3], transform[..., :3, 3], transform[..., 3, 3] = (
        rotation,
        translation,
        1.0,
    )
    return transform


def from_quaternion(translation, quaternion_xyzw):
    """(..., 3) metres and (..., 4) x y z w -> (..., 4, 4). Raises ValueError where a quaternion is
    not of unit length.
    """
    quaternion = np.asarray(quaternion_xyzw, float)
    norm = np.linalg.norm(quaternion, axis=-1)
    if not np.all(np.abs(norm - 1.0) < 1e-2):
        raise ValueError(
            f"quaternion must have unit length, got length {np.ravel(norm)[np.argmax(np.abs(np.ravel(norm) - 1))]:.4g}"
        )
    flat = (
        Rotation.from_quat(quaternion.reshape(-1, 4))
        .as_matrix()
        .reshape(quaternion.shape[:-1] + (3, 3))
    )
    return from_rotation_translation(flat, translation)


def to_quaternion(transform):
    """(..., 4, 4) -> (translation (..., 3), quaternion x y z w (..., 4) with w >= 0)."""
    transform = np.asarray(transform, float)
    flat = Rotation.from_matrix(transform[..., :3, :3].reshape(-1, 3, 3)).as_quat(canonical=True)
    return transform[..., :3, 3].copy(), flat.reshape(transform.shape[:-2] + (4,))


def inverse(transform):
    """T_a_b -> T_b_a for (..., 4, 4), exact for rigid transforms."""
    transform = np.asarray(transform, float)
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    return from_rotation_translation(
        rotation, -np.einsum("...ij,...j->...i", rotation, transform[..., :3, 3])
    )


def transform_points(transform, points):
    """T_a_b (4, 4) applied to points (..., 3) in b -> (..., 3) in a."""
    return np.asarray(points) @ transform[:3, :3].T + transform[:3, 3]


def rotation_angle(transform):
    """Angle of the rotation, radians in [0, pi], shape (...,)."""
    rotation = np.asarray(transform, float)[..., :3, :3]
    flat = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).magnitude()
    return flat.reshape(rotation.shape[:-2])


def exp(twist):
    """(..., 6) metres and radians -> (..., 4, 4), rotation and translation exponentiated apart
    (SO(3) x R^3).
    """
    twist = np.asarray(twist, float)
    rotation = (
        Rotation.from_rotvec(twist[..., 3:].reshape(-1, 3))
        .as_matrix()
        .reshape(twist.shape[:-1] + (3, 3))
    )
    return from_rotation_translation(rotation, twist[..., :3])


def log(transform):
    """(..., 4, 4) -> (..., 6): the inverse of :func:`exp`."""
    transform = np.asarray(transform, float)
    rotvec = Rotation.from_matrix(transform[..., :3, :3].reshape(-1, 3, 3)).as_rotvec()
    return np.concatenate(
        [transform[..., :3, 3], rotvec.reshape(transform.shape[:-2] + (3,))], axis=-1
    )


def adjoint(transform):
    """T_a_b (..., 4, 4) -> (..., 6, 6) that turns a small motion of frame b, seen in b, into the
    same seen in a (first order).
    """
    transform = np.asarray(transform, float)
    rotation, (x, y, z) = transform[..., :3, :3], np.moveaxis(transform[..., :3, 3], -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(rotation.shape)
    out = np.zeros(transform.shape[:-2] + (6, 6))
    out[..., :3, :3] = out[..., 3:, 3:] = rotation
    out[..., :3, 3:] = skew @ rotation
    return out


def orthonormalize(transform):
    """Nearest rigid transform (SVD), to stop rounding errors from adding up along a chain."""
    transform = np.array(transform, float)
    u, _, vt = np.linalg.svd(transform[..., :3, :3])
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    transform[..., :3, :3] = u @ vt
    return transform


def mean_motion(T_target_cam, T_source_cam):
    """The average T_target_source (4, 4) of cameras (N, 4, 4) known in both frames, taken in the
    cameras' middle: there their rotation errors do not lever it away.
    """
    T_target_cam, T_source_cam = np.asarray(T_target_cam, float), np.asarray(T_source_cam, float)
    middle = np.eye(4)
    middle[:3, 3] = T_source_cam[:, :3, 3].mean(axis=0)
    T_target_middle = T_target_cam @ inverse(T_source_cam) @ middle
    steps = log(inverse(T_target_middle[0]) @ T_target_middle)
    return orthonormalize(T_target_middle[0] @ exp(steps.mean(axis=0)) @ inverse(middle))


def check(transform, name="transform"):
    """Return `transform` as a float64 (4, 4) or raise ValueError naming what is wrong with
    `name`.
    """
    transform = np.asarray(transform, float)
    if transform.shape != (4, 4):
        raise ValueError(f"{name} must be a 4x4 matrix, got shape {transform.shape}")
    if not np.all(np.isfinite(transform)):
        raise ValueError(f"{name} holds NaN or infinity")
    if np.abs(transform[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise ValueError(f"{name} must have the last row 0 0 0 1, got {transform[3]}")
    if (
        np.abs(transform[:3, :3] @ transform[:3, :3].T - np.eye(3)).max() > 1e-3
        or np.linalg.det(transform[:3, :3]) < 0
    ):
        raise ValueError(f"{name} must hold a rotation (orthonormal, determinant +1)")
    return orthonormalize(transform)
