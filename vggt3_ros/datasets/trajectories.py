"""Lists of one clock at the stamps of another."""

import logging

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vggt3_ros.geometry import se3

MAX_STAMP_GAP_NS = 20_000_000  # stamps further apart than this do not belong together
MAX_POSE_GAP_NS = 200_000_000  # between two poses this far apart a motion is still nearly uniform
LISTS = "depth", "right", "odometry", "groundtruth"  # whose clock may be another than the images'
MANY = 0.1  # share of the images without a partner that is worth a warning
_log = logging.getLogger(__name__)


def offsets_ns(seconds):
    """{name: seconds to add to the stamps of a list} or None -> {name: nanoseconds} of every list
    that --time-offset knows. ValueError.
    """
    unknown = set(seconds or ()) - set(LISTS)
    if unknown:
        raise ValueError(
            f"--time-offset knows {', '.join(LISTS)}, not {', '.join(sorted(unknown))}"
        )
    return {name: round((seconds or {}).get(name, 0.0) * 1e9) for name in LISTS}


def nearest(stamps, wanted):
    """Index into increasing `stamps` (N,), N > 0, of the one nearest to each of `wanted`."""
    right = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1)).clip(
        max=len(stamps) - 1
    )
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted), left, right)


def associate(stamps, others, tolerance_ns=MAX_STAMP_GAP_NS):
    """Index pairs that are each other's nearest and at most so far apart, so that nothing is used
    twice.
    """
    if not len(stamps) or not len(others):
        return np.zeros(0, int), np.zeros(0, int)
    other_of = nearest(others, stamps)
    mutual = nearest(stamps, others)[other_of] == np.arange(len(stamps))
    chosen = np.flatnonzero(mutual & (np.abs(others[other_of] - stamps) <= tolerance_ns))
    return chosen, other_of[chosen]


def paired(stamps, others, tolerance_ns, name, where):
    """As :func:`associate`, of images and what should belong to them, neither empty. ValueError
    where nothing does, with the offset between the two; a warning where many images are left
    alone. name: of the others as --time-offset knows them; where: which data set, for people.
    """
    pairs = associate(stamps, others, tolerance_ns)
    within = f"within {tolerance_ns / 1e6:.0f} ms"
    if not len(pairs[0]):
        raise ValueError(
            f"{where}: no {name} is stamped {within} of an image: {offset_text(stamps, others, name)}"
        )
    alone = len(stamps) - len(pairs[0])
    if alone > MANY * len(stamps):
        _log.warning(
            "%s: %d of %d images have no %s %s: %s",
            where,
            alone,
            len(stamps),
            name,
            within,
            offset_text(stamps, others, name),
        )
    return pairs


def offset_text(stamps, others, name):
    """How the stamps `others` lie to `stamps`, and what mends it."""
    if others[0] <= stamps[-1] and stamps[0] <= others[-1]:
        seconds = float(np.median(others[nearest(others, stamps)] - stamps)) / 1e9
        how = f"the nearest are {abs(seconds):.3f} s {'later' if seconds > 0 else 'earlier'} (median)"
    else:
        seconds = float(others[0] - stamps[0]) / 1e9
        how = f"they are of other times (images from {stamps[0] / 1e9:.3f}, {name} from {others[0] / 1e9:.3f})"
    mend = f"--time-offset {name}={-seconds:.3f} shifts them"
    return f"{how}; {mend}" + (
        f", --input sync_tolerance={abs(seconds) + 0.01:.2f} takes them as they are"
        if abs(seconds) < 0.99
        else ""
    )


def poses_at(stamps_ns, poses, wanted_ns, max_gap_ns=MAX_POSE_GAP_NS):
    """(N,) increasing stamps with (N, 4, 4) poses -> (M, 4, 4) at (M,) stamps; NaN where nothing
    is known.

    A pose within a microsecond is taken as it is; else the two around it, at most max_gap_ns
    apart, are interpolated (translation linearly, rotation along the great arc); else the nearest
    within 20 ms is taken.
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
    between = (
        (away > 1000)
        & (stamps_ns[left] < wanted_ns)
        & (wanted_ns < stamps_ns[right])
        & (gap <= max_gap_ns)
    )
    if between.any():
        seconds = (stamps_ns - stamps_ns[0]) / 1e9
        at = (wanted_ns[between] - stamps_ns[0]) / 1e9
        rotation = Slerp(seconds, Rotation.from_matrix(poses[:, :3, :3]))(at).as_matrix()
        share = ((wanted_ns - stamps_ns[left])[between] / gap[between])[:, None]
        translation = (1 - share) * poses[left[between], :3, 3] + share * poses[
            right[between], :3, 3
        ]
        out[between] = se3.from_rotation_translation(rotation, translation)
    return out
