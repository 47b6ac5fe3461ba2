"""Which loops a page lists and draws: those that deserve a look first."""

from collections import Counter

import numpy as np

from vggt3_ros.store.snapshot import Loop, Snapshot

MOST_LISTED, MOST_DRAWN = 400, 3000


def in_order(snapshot: Snapshot) -> list[Loop]:
    """Return the loops between keyframes of the snapshot, those first that deserve a look:
    rejected ones that were measured, accepted ones by how far the solved graph disagrees with
    them for how well they are known, then the rest by matches that agree. At most MOST_DRAWN.
    """
    held = set(snapshot.keyframe_ids.tolist())
    loops = [loop for loop in snapshot.loops if {loop.source_id, loop.target_id} <= held]

    def rank(loop: Loop) -> tuple[int, float, int]:
        measured = loop.T_source_target is not None
        kind = 1 if loop.accepted else 0 if measured else 2
        off = loop.residual_m / known_m(loop)
        return kind, -off if np.isfinite(off) else 0.0, -loop.inliers

    return sorted(loops, key=rank)[:MOST_DRAWN]


def known_m(loop: Loop) -> float:
    """Return how well a loop knows its translation: standard deviation, metres, NaN where it was
    not measured.
    """
    if loop.information is None:
        return float("nan")
    try:
        variance = float(np.trace(np.linalg.inv(loop.information)[:3, :3]))
    except np.linalg.LinAlgError:
        return float("nan")
    return variance**0.5 if variance > 0 else float("nan")


def listed(loops: list[Loop]) -> list[tuple[int, Loop]]:
    """Return (number, Loop) of at most MOST_LISTED loops, half of them accepted where there are so
    many, in their order.
    """
    of_kind = {
        kind: [k for k, loop in enumerate(loops) if loop.accepted is kind]
        for kind in (True, False)
    }
    fewer = min(len(of_kind[True]), len(of_kind[False]), MOST_LISTED // 2)
    chosen = of_kind[True][: MOST_LISTED - fewer] if len(of_kind[True]) > fewer else of_kind[True]
    chosen = chosen + of_kind[False][: MOST_LISTED - len(chosen)]
    return [(k, loops[k]) for k in sorted(chosen)]


def counted(snapshot: Snapshot) -> list[tuple[str, int, int]]:
    """Return (what proposed them, accepted, rejected) of all loops, the most frequent first."""
    accepted = Counter(loop.origin for loop in snapshot.loops if loop.accepted)
    rejected = Counter(loop.origin for loop in snapshot.loops if not loop.accepted)
    origins = (accepted + rejected).most_common()
    return [(origin, accepted[origin], rejected[origin]) for origin, _ in origins]
