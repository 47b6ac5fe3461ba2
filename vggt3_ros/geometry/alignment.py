"""Robust Sim(3) alignment of two trajectories of the same cameras, from positions and
orientations.

Each camera determines the rotation between the two frames by itself, so motion along a straight
line is not degenerate (with positions alone it is: Umeyama 1991). The scale of a camera that
hardly moves is undetermined and therefore refused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.se3 import Floats

_MAD = 1.4826  # standard deviation / median absolute deviation, for a normal distribution
_TRIALS = 500
_SEARCHED = 300  # poses considered for the initial rotation and translation


class DegenerateMotion(ValueError):
    """The trajectories do not determine the alignment; the message says why."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """x_target = scale * rotation @ x_source + translation, with the residuals of each pose.

    rotation (3, 3); translation (3,) metres; residual_m, residual_rad (N,); trusted (N,) mask of
    poses of which neither residual is an outlier; sigma_m, sigma_rad: robust standard deviations
    of the residuals; scale_sigma: relative standard deviation of the scale. motion_scale: the
    scale from the trajectories alone, not positive if they determine none.
    """

    scale: float
    rotation: Floats
    translation: Floats
    residual_m: Floats
    residual_rad: Floats
    trusted: np.ndarray
    sigma_m: float
    sigma_rad: float
    scale_sigma: float
    motion_scale: float

    def points(self, points: ArrayLike) -> Floats:
        """Map points (..., 3) in the source frame to the target frame, metres."""
        turned: Floats = np.asarray(points) @ self.rotation.T
        return self.scale * turned + self.translation

    def poses(self, T_source_cam: ArrayLike) -> Floats:
        """Map poses T_source_cam (..., 4, 4) to T_target_cam (..., 4, 4), metres."""
        T_source_cam = np.asarray(T_source_cam, float)
        return se3.from_rotation_translation(
            self.rotation @ T_source_cam[..., :3, :3], self.points(T_source_cam[..., :3, 3])
        )


def align(
    T_target_cam: ArrayLike,
    T_source_cam: ArrayLike,
    confidence: ArrayLike | None = None,
    max_scale_sigma: float = 0.1,
    seed: int = 0,
    known_scale: tuple[float, float] | None = None,
) -> Alignment:
    """Align poses (N, 4, 4) of the same cameras in two frames.

    confidence (N,) >= 0 weights the source poses; up to half of them may be arbitrarily wrong.
    known_scale: (scale, its relative standard deviation) from another source, fused with that of
    the motion by inverse variance. Raises DegenerateMotion for fewer than three usable poses, if
    no rotation is shared by half of them, or if the motion is so small that the relative standard
    deviation of the scale exceeds `max_scale_sigma`.
    """
    target, source = np.asarray(T_target_cam, float), np.asarray(T_source_cam, float)
    weights = np.ones(len(target)) if confidence is None else np.asarray(confidence, float)
    usable = np.isfinite(source).all(axis=(1, 2)) & (weights > 0)
    if usable.sum() < 3:
        raise DegenerateMotion(f"alignment needs at least 3 usable poses, got {int(usable.sum())}")
    weights = np.where(usable, weights, 0) / weights[usable].mean()
    source = np.where(usable[:, None, None], source, np.eye(4))

    rotation, residual_rad, sigma_rad = _rotation(target[:, :3, :3], source[:, :3, :3], weights)
    centres, turned = target[:, :3, 3], source[:, :3, 3] @ rotation.T
    scale, translation, residual_m, sigma_m, scale_sigma = _scale_and_translation(
        centres, turned, weights, seed
    )
    motion_scale = scale
    if known_scale is not None:
        scale, scale_sigma = _fused((scale, scale_sigma), known_scale)
        translation, residual_m, sigma_m = _translation(centres - scale * turned, weights)
    if not scale > 0 or not scale_sigma <= max_scale_sigma:
        raise DegenerateMotion(
            f"the motion does not determine the scale: {scale:.3g} with a relative standard deviation of {scale_sigma:.0%}; "
            f"positions agree to {sigma_m:.3g} m on a path with a spread of {_spread(centres, weights):.3g} m"
        )
    trusted = usable & (residual_m <= 4 * sigma_m) & (residual_rad <= 4 * sigma_rad)
    return Alignment(
        scale,
        rotation,
        translation,
        residual_m,
        residual_rad,
        trusted,
        sigma_m,
        sigma_rad,
        scale_sigma,
        motion_scale,
    )


def segment_scales(
    alignment: Alignment, T_target_cam: np.ndarray, T_source_cam: np.ndarray, length: int = 20
) -> Floats:
    """Return the scale of each segment of `length` poses relative to the alignment's; NaN for a
    segment that does not determine it.

    Ratios near 1 mean that one scale fits all; a trend means that the source's scale drifts.
    """
    ratios: list[float] = []
    for first in range(0, len(T_target_cam), length):
        part = np.arange(first, min(first + length, len(T_target_cam)))
        part = part[alignment.trusted[part]]
        if len(part) < 3:
            ratios.append(np.nan)
            continue
        turned = T_source_cam[part, :3, 3] @ alignment.rotation.T
        centres = T_target_cam[part, :3, 3]
        scale, _, _, _, sigma = _scale_and_translation(centres, turned, np.ones(len(part)), 0)
        ratios.append(scale / alignment.scale if scale > 0 and sigma < 0.2 else np.nan)
    return np.array(ratios)


def _rotation(target: Floats, source: Floats, weights: Floats) -> tuple[Floats, Floats, float]:
    """Return the rotation (3, 3) that most cameras agree on, the residual angles (N,) and their
    robust standard deviation, radians.
    """
    votes = target @ np.swapaxes(source, 1, 2)
    index = np.flatnonzero(weights > 0)
    searched = index[np.linspace(0, len(index) - 1, min(_SEARCHED, len(index))).astype(int)]
    cosine = (np.einsum("aij,bij->ab", votes[searched], votes[index]) - 1) / 2
    angles = np.arccos(np.clip(cosine, -1, 1))
    mean = votes[searched[np.argmin(np.median(angles, axis=1))]]
    for _ in range(20):
        residual = _angles(votes, mean)
        # / 1.5: the residual is the norm of a 3-vector, sigma that of one component
        sigma = max(_MAD * np.median(residual[index]), 1e-6) / 1.5
        robust = weights / (1 + (residual / (2 * sigma)) ** 2)
        u, _, vt = np.linalg.svd(np.einsum("n,nij->ij", robust, votes))
        mean = u @ np.diag((1, 1, np.linalg.det(u @ vt))) @ vt
    residual = _angles(votes, mean)
    sigma = max(_MAD * np.median(residual[index]) / 1.5, 1e-6)
    if np.median(residual[index]) > 0.5:
        raise DegenerateMotion(
            f"the trajectories share no rotation: half of the orientations disagree by more than {np.median(residual[index]):.2f} rad"
        )
    return mean, residual, sigma


def _angles(votes: Floats, mean: Floats) -> Floats:
    angles: Floats = Rotation.from_matrix(votes @ mean.T).magnitude()
    return angles


def _scale_and_translation(
    target: Floats, source: Floats, weights: Floats, seed: int
) -> tuple[float, Floats, Floats, float, float]:
    """Minimise the robust norm of target - s source - t; return the scale s, the translation t,
    the residuals (N,), their standard deviation, and the relative standard deviation of s.
    """
    s, t = _least_median(target, source, weights, seed)
    for _ in range(30):
        residual = np.linalg.norm(target - s * source - t, axis=1)
        sigma = max(_MAD * np.median(residual[weights > 0]) / 1.5, 1e-9)
        robust = weights / (1 + (residual / (2 * sigma)) ** 2)
        s, t = _weighted_fit(target, source, robust)
    residual = np.linalg.norm(target - s * source - t, axis=1)
    sigma = max(_MAD * np.median(residual[weights > 0]) / 1.5, 1e-9)
    centred = source - np.average(source, axis=0, weights=robust)
    information = (robust / robust.max() * np.square(centred).sum(axis=1)).sum()
    relative_sigma = (
        sigma / np.sqrt(information) / abs(s) if information > 0 and s != 0 else np.inf
    )
    return s, t, residual, sigma, relative_sigma


def _fused(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """Fuse two estimates (scale, relative standard deviation) by inverse variance."""
    known = [
        (np.log(scale), sigma**-2)
        for scale, sigma in (first, second)
        if scale > 0 and 0 < sigma < np.inf
    ]
    if not known:
        return first
    logarithms, weights = np.array(known).T
    return float(np.exp(np.average(logarithms, weights=weights))), float(weights.sum() ** -0.5)


def _translation(offsets: Floats, weights: Floats) -> tuple[Floats, Floats, float]:
    """Return the robust mean (3,) of offsets (N, 3), the residuals (N,) and their sigma."""
    t: Floats = np.median(offsets[weights > 0], axis=0)
    for _ in range(20):
        residual = np.linalg.norm(offsets - t, axis=1)
        sigma = max(_MAD * np.median(residual[weights > 0]) / 1.5, 1e-9)
        t = np.average(offsets, axis=0, weights=weights / (1 + (residual / (2 * sigma)) ** 2))
    residual = np.linalg.norm(offsets - t, axis=1)
    return t, residual, max(_MAD * np.median(residual[weights > 0]) / 1.5, 1e-9)


def _weighted_fit(target: Floats, source: Floats, weights: Floats) -> tuple[float, Floats]:
    """Return the weighted least-squares scale and translation (Umeyama 1991, without rotation)."""
    a, b = (np.average(x, axis=0, weights=weights) for x in (target, source))
    spread = (weights[:, None] * np.square(source - b)).sum()
    s = (weights[:, None] * (target - a) * (source - b)).sum() / spread if spread > 0 else 0.0
    return s, a - s * b


def _least_median(
    target: Floats, source: Floats, weights: Floats, seed: int
) -> tuple[float, Floats]:
    """Return the scale and translation of the pair of poses with the smallest median residual
    (least median of squares, Rousseeuw 1984).
    """
    rng = np.random.default_rng(seed)
    index = np.flatnonzero(weights > 0)
    i, j = rng.choice(index, (2, _TRIALS))
    source_step, target_step = source[i] - source[j], target[i] - target[j]
    length = np.square(source_step).sum(axis=1)
    scales = np.divide(
        (source_step * target_step).sum(axis=1), length, out=np.zeros(_TRIALS), where=length > 0
    )
    middles = (target[i] + target[j]) / 2 - scales[:, None] * (source[i] + source[j]) / 2
    tried = index[np.linspace(0, len(index) - 1, min(_SEARCHED, len(index))).astype(int)]
    residual = np.linalg.norm(
        target[tried] - scales[:, None, None] * source[tried] - middles[:, None], axis=2
    )
    best = np.argmin(np.where(scales > 0, np.median(residual, axis=1), np.inf))
    return (
        (scales[best], middles[best])
        if scales[best] > 0
        else _weighted_fit(target, source, weights)
    )


def _spread(centres: Floats, weights: Floats) -> float:
    return float(
        np.sqrt(
            np.average(
                np.square(centres - np.average(centres, axis=0, weights=weights)).sum(axis=1),
                weights=weights,
            )
        )
    )
