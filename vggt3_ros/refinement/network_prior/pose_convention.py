"""Check against the odometry how a network's poses are read.

Networks of one architecture are trained with camera-from-world poses (VGGT, VGG-T³) or with the
inverse (stage 1 of LingBot-Map), and their files do not say which. A path that is read the wrong
way turns the other way and, without rotations, runs backwards. So the user configures the
convention, and the odometry contradicts a wrong one; the convention is never guessed.
"""

import numpy as np

from vggt3_ros.config import POSE_CONVENTIONS
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.alignment import Alignment, DegenerateMotion, align

TURN_TOLERANCE = 0.25  # radians by which half of the orientations may differ from the odometry's
# ratio of the misfits of both readings from which on one is wrong: noise never makes poses that
# were read correctly fit that much worse
CLEARLY = 3.0


def disagreement(
    alignment: Alignment, seen: np.ndarray, T_odom_cam: np.ndarray
) -> tuple[float, float, float]:
    """Return the median disagreement with the odometry (N, 4, 4) and the extent of the path:
    (metres, radians, metres). seen (N,): mask of the poses that count.
    """
    centres = T_odom_cam[:, :3, 3]
    extent = float(np.sqrt(np.square(centres - centres.mean(axis=0)).sum(axis=1).mean()))
    return (
        float(np.median(alignment.residual_m[seen])),
        float(np.median(alignment.residual_rad[seen])),
        extent,
    )


def contradiction(
    T_odom_cam: np.ndarray,
    T_network_cam: np.ndarray,
    confidence: np.ndarray,
    convention: str,
    max_disagreement: float,
) -> str:
    """Return why poses (N, 4, 4) that were read by `convention` should be read the other way; ""
    when the odometry does not contradict them.

    confidence (N,): >= 0. max_disagreement: share of the path's extent by which half of the poses
    may differ from the odometry.
    """
    as_read = _misfit(T_odom_cam, T_network_cam, confidence, max_disagreement)
    reverse = _misfit(T_odom_cam, _reversed(T_network_cam), confidence, max_disagreement)
    if reverse > 1 or as_read <= CLEARLY * reverse:
        return ""
    (other,) = set(POSE_CONVENTIONS) - {convention}
    return (
        f"its poses were read as {convention}, but they fit the odometry only when read as {other}"
    )


def _misfit(
    T_odom_cam: np.ndarray,
    T_network_cam: np.ndarray,
    confidence: np.ndarray,
    max_disagreement: float,
) -> float:
    """Return the disagreement of poses with the odometry in units of the tolerance; infinity when
    they cannot be aligned with it.
    """
    try:
        alignment = align(T_odom_cam, T_network_cam, confidence)
    except DegenerateMotion:
        return np.inf
    metres, radians, extent = disagreement(alignment, confidence > 0, T_odom_cam)
    return max(metres / (max_disagreement * extent), radians / TURN_TOLERANCE)


def _reversed(poses: np.ndarray) -> np.ndarray:
    """Invert poses (N, 4, 4); NaN stays NaN."""
    out, known = np.full_like(poses, np.nan), np.isfinite(poses).all(axis=(1, 2))
    out[known] = se3.inverse(poses[known])
    return out
