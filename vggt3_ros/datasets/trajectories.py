"""Associate lists of stamps, and interpolate poses at the stamps of another list."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vggt3_ros.geometry import se3

MAX_STAMP_GAP_NS = 20_000_000  # largest difference of stamps that belong together
MAX_POSE_GAP_NS = 200_000_000  # longest gap over which a motion is nearly uniform
# lists whose clock may differ from the images'
LISTS = ("depth", "right", "odometry", "groundtruth")
MANY = 0.1  # share of unmatched images above which a warning is logged
_log = logging.getLogger(__name__)


def offsets_ns(seconds: Mapping[str, float] | None) -> dict[str, int]:
    """Convert {name: seconds to add to the stamps of a list} to nanoseconds, for every list that
    --time-offset knows. Raise ValueError on an unknown name.
    """
    unknown = set(seconds or ()) - set(LISTS)
    if unknown:
        raise ValueError(
            f"--time-offset: unknown list {', '.join(sorted(unknown))}; known: {', '.join(LISTS)}"
        )
    return {name: round((seconds or {}).get(name, 0.0) * 1e9) for name in LISTS}


def nearest(stamps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the indices into increasing `stamps` (N,), N > 0, of those nearest to each of
    `wanted`.
    """
    right = np.clip(np.searchsorted(stamps, wanted), 1, max(len(stamps) - 1, 1)).clip(
        max=len(stamps) - 1
    )
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted), left, right)


def associate(
    stamps: np.ndarray, others: np.ndarray, tolerance_ns: int = MAX_STAMP_GAP_NS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index pairs that are mutual nearest neighbours within `tolerance_ns`. No index
    occurs twice.
    """
    if not len(stamps) or not len(others):
        return np.zeros(0, int), np.zeros(0, int)
    other_of = nearest(others, stamps)
    mutual = nearest(stamps, others)[other_of] == np.arange(len(stamps))
    chosen = np.flatnonzero(mutual & (np.abs(others[other_of] - stamps) <= tolerance_ns))
    return chosen, other_of[chosen]


def paired(
    stamps: np.ndarray, others: np.ndarray, tolerance_ns: int, name: str, where: str | Path
) -> tuple[np.ndarray, np.ndarray]:
    """Associate images with another list, neither empty, as :func:`associate`.

    name: of the list, one of LISTS; where: the data set, as named in messages. Raise ValueError
    with the offset between the two lists if there is no pair; log a warning if many images have
    none.
    """
    pairs = associate(stamps, others, tolerance_ns)
    within = f"within {tolerance_ns / 1e6:.0f} ms"
    if not len(pairs[0]):
        raise ValueError(
            f"{where}: no {name} stamp is {within} of an image: {offset_text(stamps, others, name)}"
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


def offset_text(stamps: np.ndarray, others: np.ndarray, name: str) -> str:
    """Describe the offset between two lists of stamps, and the options that correct it."""
    if others[0] <= stamps[-1] and stamps[0] <= others[-1]:
        seconds = float(np.median(others[nearest(others, stamps)] - stamps)) / 1e9
        how = f"the nearest are {abs(seconds):.3f} s {'later' if seconds > 0 else 'earlier'} (median)"
    else:
        seconds = float(others[0] - stamps[0]) / 1e9
        how = f"the time ranges do not overlap (images from {stamps[0] / 1e9:.3f}, {name} from {others[0] / 1e9:.3f})"
    remedy = f"--time-offset {name}={-seconds:.3f} corrects the offset"
    return f"{how}; {remedy}" + (
        f", --input sync_tolerance={abs(seconds) + 0.01:.2f} tolerates it"
        if abs(seconds) < 0.99
        else ""
    )


def poses_at(
    stamps_ns: np.ndarray,
    poses: np.ndarray,
    wanted_ns: np.ndarray,
    max_gap_ns: int = MAX_POSE_GAP_NS,
) -> np.ndarray:
    """Return poses (M, 4, 4) at wanted_ns (M,) from (N, 4, 4) poses at (N,) increasing stamps; NaN
    where unknown.

    A pose within a microsecond is used as it is. Otherwise the two surrounding poses, at most
    max_gap_ns apart, are interpolated: translation linearly, rotation along the great arc.
    Otherwise the nearest pose within 20 ms is used.
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
