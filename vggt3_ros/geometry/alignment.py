"""Robust Sim(3) between two trajectories of the same cameras, from their positions and
orientations.

Every camera gives a full estimate of the rotation between the two frames, so a straight line is no
degenerate case (with positions alone it is: Umeyama 1991). What stays undetermined is the scale of
a camera that hardly moves: that is refused.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3

_MAD = 1.4826  # times the median absolute deviation: a normal distribution's standard deviation
_TRIALS = 500
_SEARCHED = 300  # poses among which the first rotation is looked for


class DegenerateMotion(ValueError):
    """The trajectories do not determine the alignment; the message says why."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """x_target = scale * rotation @ x_source + translation, with how well each pose follows it.

    rotation (3, 3); translation (3,) metres; residual_m, residual_rad (N,); trusted (N,) mask:
    neither residual is an outlier; sigma_m, sigma_rad: robust standard deviations of the trusted
    residuals; scale_sigma: of the scale, relative to it. motion_scale: what the trajectories alone
    would have given; not positive where they give none.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    residual_m: np.ndarray
    residual_rad: np.ndarray
    trusted: np.ndarray
    sigma_m: float
    sigma_rad: float
    scale_sigma: float
    motion_scale: float

    def points(self, points):
        """(..., 3) in the source frame -> (..., 3) metres in the target frame."""
        return self.scale * np.asarray(points) @ self.rotation.T + self.translation

    def poses(self, T_source_cam):
        """T_source_cam (..., 4, 4) -> T_target_cam (..., 4, 4)."""
        T_source_cam = np.asarray(T_source_cam, float)
        return se3.from_rotation_translation(
            self.rotation @ T_source_cam[..., :3, :3], self.points(T_source_cam[..., :3, 3])
        )


def align(
    T_target_cam, T_source_cam, confidence=None, max_scale_sigma=0.1, seed=0, known_scale=None
):
    """Poses (N, 4, 4) of the same cameras in two frames, confidence (N,) >= 0 of each source pose
    -> Alignment.

    Up to half of the source poses may be arbitrarily wrong. known_scale: (scale, its relative
    standard deviation) by other means, joined with the motion's own by their variances. Raises
    DegenerateMotion where fewer than three poses are given, no rotation is shared by half of them,
    or the motion is so small that the scale's standard deviation exceeds `max_scale_sigma`
    (relative).
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
        scale, scale_sigma = _joined((scale, scale_sigma), known_scale)
        translation, residual_m, sigma_m = _translation(centres - scale * turned, weights)
    if not scale > 0 or not scale_sigma <= max_scale_sigma:
        raise DegenerateMotion(
            f"the motion does not determine the scale: {scale:.3g} with a relative standard deviation of {scale_sigma:.0%}, "
            f"positions agreeing to {sigma_m:.3g} m over a path whose spread is {_spread(centres, weights):.3g} m"
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


def segment_scales(alignment, T_target_cam, T_source_cam, length=20):
    """Scale of each stretch of `length` poses over the alignment's, NaN where the stretch does not
    determine it.

    1 everywhere means that one scale holds; a trend shows that the source's scale drifts.
    """
    ratios = []
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


def _rotation(target, source, weights):
    """Rotation (3, 3) that most cameras agree on, residual angles (N,), their robust standard
    deviation.
    """
    votes = target @ np.swapaxes(source, 1, 2)
    index = np.flatnonzero(weights > 0)
    searched = index[np.linspace(0, len(index) - 1, min(_SEARCHED, len(index))).astype(int)]
    cosine = (np.einsum("aij,bij->ab", votes[searched], votes[index]) - 1) / 2
    angles = np.arccos(np.clip(cosine, -1, 1))
    mean = votes[searched[np.argmin(np.median(angles, axis=1))]]
    for _ in range(20):
        residual = _angles(votes, mean)
        # the length of a 3-vector, not one of its components
        sigma = max(_MAD * np.median(residual[index]), 1e-6) / 1.5
        robust = weights / (1 + (residual / (2 * sigma)) ** 2)
        u, _, vt = np.linalg.svd(np.einsum("n,nij->ij", robust, votes))
        mean = u @ np.diag((1, 1, np.linalg.det(u @ vt))) @ vt
    residual = _angles(votes, mean)
    sigma = max(_MAD * np.median(residual[index]) / 1.5, 1e-6)
    if np.median(residual[index]) > 0.5:
        raise DegenerateMotion(
            f"the two trajectories do not turn alike: half of the orientations disagree by more than {np.median(residual[index]):.2f} rad"
        )
    return mean, residual, sigma


def _angles(votes, mean):
    return Rotation.from_matrix(votes @ mean.T).magnitude()


def _scale_and_translation(target, source, weights, seed):
    """Scale s and translation t minimising robust |target - s source - t|, residuals (N,), their
    sigma, relative sigma of s.
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


def _joined(first, second):
    """Two (scale, relative standard deviation) -> the same of both together."""
    known = [
        (np.log(scale), sigma**-2)
        for scale, sigma in (first, second)
        if scale > 0 and 0 < sigma < np.inf
    ]
    if not known:
        return first
    logarithms, weights = np.array(known).T
    return float(np.exp(np.average(logarithms, weights=weights))), float(weights.sum() ** -0.5)


def _translation(apart, weights):
    """Robust mean (3,) of apart (N, 3), residuals (N,), their sigma."""
    t = np.median(apart[weights > 0], axis=0)
    for _ in range(20):
        residual = np.linalg.norm(apart - t, axis=1)
        sigma = max(_MAD * np.median(residual[weights > 0]) / 1.5, 1e-9)
        t = np.average(apart, axis=0, weights=weights / (1 + (residual / (2 * sigma)) ** 2))
    residual = np.linalg.norm(apart - t, axis=1)
    return t, residual, max(_MAD * np.median(residual[weights > 0]) / 1.5, 1e-9)


def _weighted_fit(target, source, weights):
    a, b = (np.average(x, axis=0, weights=weights) for x in (target, source))
    spread = (weights[:, None] * np.square(source - b)).sum()
    s = (weights[:, None] * (target - a) * (source - b)).sum() / spread if spread > 0 else 0.0
    return s, a - s * b


def _least_median(target, source, weights, seed):
    """Scale and translation through the pair of poses with the least median residual (least median
    of squares).
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


def _spread(centres, weights):
    return float(
        np.sqrt(
            np.average(
                np.square(centres - np.average(centres, axis=0, weights=weights)).sum(axis=1),
                weights=weights,
            )
        )
    )
