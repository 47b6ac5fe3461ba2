"""The rigid alignment of a trajectory to the truth by its positions; by its orientations too where
positions leave it open.

Positions on a straight line say nothing of the turn about that line, and those of a camera that
stands say nothing of any (Umeyama, PAMI 1991). Every orientation is a full measurement of the
rotation between the frames (Wahba's problem; Markley, 1988).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

POSITIONS, ORIENTATIONS = "positions", "positions and orientations"
EXACT_M, EXACT_RAD = 1e-6, 1e-6  # nothing is known better


@dataclass(frozen=True, eq=False)
class TrajectoryAlignment:
    """x_truth = scale * rotation @ x_estimate + translation; by: POSITIONS or ORIENTATIONS, what
    the rotation was told from.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: float
    by: str


def aligned(T_estimate_cam, T_truth_cam, correct_scale=False):
    """(N, 4, 4) poses in two frames, N >= 3 -> TrajectoryAlignment with least squared distances of
    positions.

    Where the orientations tell the turn about the line that the positions lie along better than
    the positions do, both are used, each by how well it agrees. correct_scale: the scale that fits
    best, 1 without and where the estimate stands still.
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
    # the turn is known worse than one orientation knows it
    if off_m**2 > scale * information * off_rad**2:
        rotation, _ = _rotation(
            scale * by_positions / off_m**2 + by_orientations / (2 * off_rad**2)
        )
        scale = _scale(a @ rotation.T, b) if correct_scale else 1.0
        by = ORIENTATIONS
    return TrajectoryAlignment(rotation, centres[1] - scale * rotation @ centres[0], scale, by)


def _rotation(correlation):
    """(3, 3) sum of truth times estimate^T -> the rotation that fits best, and its information
    about the axis known worst: sum of squares of how far from it what was summed lies.
    """
    u, values, vt = np.linalg.svd(correlation)
    sign = np.sign(np.linalg.det(u @ vt)) or 1.0
    return u @ np.diag((1, 1, sign)) @ vt, max(values[1] + sign * values[2], 0.0)


def _scale(turned, truth):
    spread = np.square(turned).sum()
    return float((turned * truth).sum() / spread) if spread > EXACT_M**2 else 1.0
