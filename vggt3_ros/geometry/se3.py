"""Rigid transforms as 4x4 float64 matrices named T_target_source: p_target = T_target_source @
p_source.

Arrays of transforms have shape (..., 4, 4). Quaternions are x y z w (as in ROS and TUM files).
Twists are (tx, ty, tz, rx, ry, rz): metres, then radians, the order of ROS covariances.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]


def from_rotation_translation(rotation: ArrayLike, translation: ArrayLike) -> Floats:
    """Combine rotations (..., 3, 3) and translations (..., 3) into transforms (..., 4, 4)."""
    rotation, translation = np.asarray(rotation, float), np.asarray(translation, float)
    transform = np.zeros(np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]) + (4, 4))
    transform[..., :3, :3], transform[..., :3, 3], transform[..., 3, 3] = (
        rotation,
        translation,
        1.0,
    )
    return transform


def from_quaternion(translation: ArrayLike, quaternion_xyzw: ArrayLike) -> Floats:
    """Combine translations (..., 3), metres, and quaternions (..., 4) x y z w into transforms
    (..., 4, 4). Raises ValueError if the length of a quaternion differs from 1 by 1 % or more.
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


def to_quaternion(transform: ArrayLike) -> tuple[Floats, Floats]:
    """Split transforms (..., 4, 4) into translations (..., 3) and quaternions (..., 4) x y z w with
    w >= 0.
    """
    transform = np.asarray(transform, float)
    rotation = Rotation.from_matrix(transform[..., :3, :3].reshape(-1, 3, 3))
    flat: Floats = rotation.as_quat(canonical=True)
    return transform[..., :3, 3].copy(), flat.reshape(transform.shape[:-2] + (4,))


def inverse(transform: ArrayLike) -> Floats:
    """Invert rigid transforms T_a_b (..., 4, 4) to T_b_a, by transposing the rotation."""
    transform = np.asarray(transform, float)
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    return from_rotation_translation(
        rotation, -np.einsum("...ij,...j->...i", rotation, transform[..., :3, 3])
    )


def transform_points(transform: np.ndarray, points: ArrayLike) -> np.ndarray:
    """Apply T_a_b (4, 4) to points (..., 3) in b; return them in a."""
    moved: np.ndarray = np.asarray(points) @ transform[:3, :3].T + transform[:3, 3]
    return moved


def rotation_angle(transform: ArrayLike) -> Floats:
    """Return the rotation angle of transforms (..., 4, 4): radians in [0, pi], shape (...,)."""
    rotation = np.asarray(transform, float)[..., :3, :3]
    flat: Floats = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).magnitude()
    return flat.reshape(rotation.shape[:-2])


def exp(twist: ArrayLike) -> Floats:
    """Map twists (..., 6), metres and radians, to transforms (..., 4, 4). Rotation and translation
    are independent (SO(3) x R^3).
    """
    twist = np.asarray(twist, float)
    rotation = (
        Rotation.from_rotvec(twist[..., 3:].reshape(-1, 3))
        .as_matrix()
        .reshape(twist.shape[:-1] + (3, 3))
    )
    return from_rotation_translation(rotation, twist[..., :3])


def log(transform: ArrayLike) -> Floats:
    """Map transforms (..., 4, 4) to twists (..., 6): the inverse of :func:`exp`."""
    transform = np.asarray(transform, float)
    rotvec = Rotation.from_matrix(transform[..., :3, :3].reshape(-1, 3, 3)).as_rotvec()
    return np.concatenate(
        [transform[..., :3, 3], rotvec.reshape(transform.shape[:-2] + (3,))], axis=-1
    )


def adjoint(transform: ArrayLike) -> Floats:
    """Return the (..., 6, 6) matrix of T_a_b (..., 4, 4) that maps a small twist expressed in b to
    the same motion expressed in a (first order).
    """
    transform = np.asarray(transform, float)
    rotation, (x, y, z) = transform[..., :3, :3], np.moveaxis(transform[..., :3, 3], -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(rotation.shape)
    out = np.zeros(transform.shape[:-2] + (6, 6))
    out[..., :3, :3] = out[..., 3:, 3:] = rotation
    out[..., :3, 3:] = skew @ rotation
    return out


def orthonormalize(transform: ArrayLike) -> Floats:
    """Return the nearest rigid transforms (SVD), to stop rounding errors from accumulating along a
    chain.
    """
    transform = np.array(transform, float)
    u, _, vt = np.linalg.svd(transform[..., :3, :3])
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    transform[..., :3, :3] = u @ vt
    return transform


def mean_motion(T_target_cam: ArrayLike, T_source_cam: ArrayLike) -> Floats:
    """Average T_target_source (4, 4) over cameras (N, 4, 4) known in both frames.

    The average is taken at the centroid of the cameras, where their rotation errors have no lever
    arm.
    """
    T_target_cam, T_source_cam = np.asarray(T_target_cam, float), np.asarray(T_source_cam, float)
    middle = np.eye(4)
    middle[:3, 3] = T_source_cam[:, :3, 3].mean(axis=0)
    T_target_middle = T_target_cam @ inverse(T_source_cam) @ middle
    steps = log(inverse(T_target_middle[0]) @ T_target_middle)
    return orthonormalize(T_target_middle[0] @ exp(steps.mean(axis=0)) @ inverse(middle))


def check(transform: ArrayLike, name: str = "transform") -> Floats:
    """Return `transform` as a float64 (4, 4) rigid transform. Raises ValueError that says what is
    wrong with `name`.
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
