"""Rigid alignment of a trajectory to the ground truth by its positions, and by its orientations as
well if positions leave it undetermined.

Positions on a straight line do not determine the rotation about that line, and those of a
stationary camera determine none (Umeyama, PAMI 1991). Every orientation is a full measurement of
the rotation between the frames (Wahba's problem; Markley, 1988).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

POSITIONS, ORIENTATIONS = "positions", "positions and orientations"
EXACT_M, EXACT_RAD = 1e-6, 1e-6  # lower bound on the standard deviations


@dataclass(frozen=True, eq=False)
class TrajectoryAlignment:
    """x_truth = scale * rotation @ x_estimate + translation. by: POSITIONS or ORIENTATIONS, what
    determined the rotation.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: float
    by: str


def aligned(
    T_estimate_cam: np.ndarray, T_truth_cam: np.ndarray, correct_scale: bool = False
) -> TrajectoryAlignment:
    """Return the least-squares alignment of the positions of (N, 4, 4) poses in two frames, N >=
    3.

    If orientations determine the rotation about the line through the positions more accurately
    than the positions do, both are used, weighted by their residuals. correct_scale: fit the scale
    too; otherwise, and for a stationary estimate, it is 1.
    """
    estimate, truth = (np.asarray(T, float)[:, :3, 3] for T in (T_estimate_cam, T_truth_cam))
    centres = estimate.mean(axis=0), truth.mean(axis=0)
    a, b = estimate - centres[0], truth - centres[1]
    by_positions = b.T @ a
    rotation, information = _rotation(by_positions)
    scale = _scale(a @ rotation.T, b) if correct_scale else 1.0
    off_m = max(np.sqrt(np.square(b - scale * a @ rotation.T).mean()), EXACT_M)
    votes = T_truth_cam[:, :3, :3] @ np.swapaxes(T_estimate_cam[:, :3, :3], 1, 2)
    by_orientations = votes.sum(axis=0)
    mean, _ = _rotation(by_orientations)
    off_rad = max(
        np.sqrt(np.square(Rotation.from_matrix(votes @ mean.T).magnitude()).mean() / 3), EXACT_RAD
    )
    by = POSITIONS
    # positions determine the rotation less accurately than one orientation does
    if off_m**2 > scale * information * off_rad**2:
        rotation, _ = _rotation(
            scale * by_positions / off_m**2 + by_orientations / (2 * off_rad**2)
        )
        scale = _scale(a @ rotation.T, b) if correct_scale else 1.0
        by = ORIENTATIONS
    return TrajectoryAlignment(rotation, centres[1] - scale * rotation @ centres[0], scale, by)


def _rotation(correlation: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the best rotation for the (3, 3) sum of truth times estimate^T, and its information
    about the worst determined axis: the sum of squared distances of the summed vectors from that
    axis.
    """
    u, values, vt = np.linalg.svd(correlation)
    sign = np.sign(np.linalg.det(u @ vt)) or 1.0
    return u @ np.diag((1, 1, sign)) @ vt, max(values[1] + sign * values[2], 0.0)


def _scale(turned: np.ndarray, truth: np.ndarray) -> float:
    spread = np.square(turned).sum()
    return float((turned * truth).sum() / spread) if spread > EXACT_M**2 else 1.0
