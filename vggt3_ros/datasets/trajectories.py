"""Poses of one clock at the stamps of another."""

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vggt3_ros.geometry import se3

MAX_STAMP_GAP_NS = 20_000_000  # stamps further apart than this do not belong together
MAX_POSE_GAP_NS = 200_000_000  # between two poses this far apart a motion is still nearly uniform


def nearest(stamps, wanted):
    """Index into increasing `stamps` (N,), N > 0, of the one nearest to each of `wanted`."""
    right = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1)).clip(max=len(stamps) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted), left, right)


def associate(stamps, others):
    """Index pairs that are each other's nearest and at most 20 ms apart, so that nothing is used twice."""
    if not len(stamps) or not len(others):
        return np.zeros(0, int), np.zeros(0, int)
    other_of = nearest(others, stamps)
    mutual = nearest(stamps, others)[other_of] == np.arange(len(stamps))
    chosen = np.flatnonzero(mutual & (np.abs(others[other_of] - stamps) <= MAX_STAMP_GAP_NS))
    return chosen, other_of[chosen]


def poses_at(stamps_ns, poses, wanted_ns, max_gap_ns=MAX_POSE_GAP_NS):
    """(N,) increasing stamps with (N, 4, 4) poses -> (M, 4, 4) at (M,) stamps; NaN where nothing is known.

    A pose within a microsecond is taken as it is; else the two around it, at most max_gap_ns apart, are interpolated
    (translation linearly, rotation along the great arc); else the nearest within 20 ms is taken.
    """
    wanted_ns = np.asarray(wanted_ns, np.int64)
    out = np.full((len(wanted_ns), 4, 4), np.nan)
    if not len(stamps_ns) or not len(wanted_ns):
        return out
    index = nearest(stamps_ns, wanted_ns)
    away = np.abs(stamps_ns[index] - wanted_ns)
    out[away <= MAX_STAMP_GAP_NS] = poses[index[away <= MAX_STAMP_GAP_NS]]
    right = np.searchsorted(stamps_ns, wanted_ns).clip(max=len(stamps_ns) - 1)
    left = np.maximum(right - 1, 0)
    gap = stamps_ns[right] - stamps_ns[left]
    between = (away > 1000) & (stamps_ns[left] < wanted_ns) & (wanted_ns < stamps_ns[right]) & (gap <= max_gap_ns)
    if between.any():
        seconds = (stamps_ns - stamps_ns[0]) / 1e9
        at = (wanted_ns[between] - stamps_ns[0]) / 1e9
        rotation = Slerp(seconds, Rotation.from_matrix(poses[:, :3, :3]))(at).as_matrix()
        share = ((wanted_ns - stamps_ns[left])[between] / gap[between])[:, None]
        translation = (1 - share) * poses[left[between], :3, 3] + share * poses[right[between], :3, 3]
        out[between] = se3.from_rotation_translation(rotation, translation)
    return out
