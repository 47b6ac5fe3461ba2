"""Which way a network's poses are read, checked against the odometry.

Networks of one architecture are trained with camera-from-world poses (VGGT, VGG-T³) or with the
reverse (stage 1 of LingBot-Map), and their files do not say so. Read the wrong way a path is
another one: it turns the other way and, without turns, runs backwards. So the user says which it
is, and the odometry contradicts what is wrong; nothing is guessed in silence.
"""

import numpy as np

from vggt3_ros.config import POSE_CONVENTIONS
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.alignment import DegenerateMotion, align

TURN_TOLERANCE = 0.25  # radians by which half of the orientations may differ from the odometry's
# times as far from the odometry as the reverse: no noise does that to poses that were read rightly
CLEARLY = 3.0


def disagreement(alignment, seen, T_odom_cam):
    """Of half of the poses with the odometry (N, 4, 4): (metres, radians, extent of the path in
    metres). seen: mask (N,) of what counts.
    """
    centres = T_odom_cam[:, :3, 3]
    extent = float(np.sqrt(np.square(centres - centres.mean(axis=0)).sum(axis=1).mean()))
    return (
        float(np.median(alignment.residual_m[seen])),
        float(np.median(alignment.residual_rad[seen])),
        extent,
    )


def contradiction(T_odom_cam, T_network_cam, confidence, convention, max_disagreement):
    """Why poses (N, 4, 4), read by `convention`, should have been read the other way; empty where
    the odometry has nothing against it.

    confidence (N,) >= 0; max_disagreement: share of the path's extent by which half of the poses
    may differ from the odometry.
    """
    as_read = _misfit(T_odom_cam, T_network_cam, confidence, max_disagreement)
    reverse = _misfit(T_odom_cam, _reversed(T_network_cam), confidence, max_disagreement)
    if reverse > 1 or as_read <= CLEARLY * reverse:
        return ""
    (other,) = set(POSE_CONVENTIONS) - {convention}
    return f"its poses were read as {convention}, and fit the odometry only when they are read as {other}"


def _misfit(T_odom_cam, T_network_cam, confidence, max_disagreement):
    """How far poses are from the odometry: 1 is the most that is believed, infinite where they
    cannot be aligned to it.
    """
    try:
        alignment = align(T_odom_cam, T_network_cam, confidence)
    except DegenerateMotion:
        return np.inf
    metres, radians, extent = disagreement(alignment, confidence > 0, T_odom_cam)
    return max(metres / (max_disagreement * extent), radians / TURN_TOLERANCE)


def _reversed(poses):
    """The inverse of poses (N, 4, 4), NaN where they are."""
    out, known = np.full_like(poses, np.nan), np.isfinite(poses).all(axis=(1, 2))
    out[known] = se3.inverse(poses[known])
    return out
