"""What is drawn of a snapshot, as arrays: lines, and how large points are."""

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.store.snapshot import Loop, Snapshot

MOST_CLOUDS = 256  # nodes of points; with more keyframes, neighbours share one
SAMPLED = 2000  # points that say how dense a cloud is


def anchors(count: int) -> np.ndarray:
    """(N,): the keyframe with which the points of each one move: itself, unless there are too
    many.
    """
    each = -(-count // MOST_CLOUDS)
    rows = np.arange(count)
    return np.minimum(rows // each * each + each // 2, count - 1)


def path_segments(snapshot: Snapshot, position: np.ndarray) -> np.ndarray:
    """Segments (S, 2, 3) between successive keyframes of a session."""
    sessions = np.asarray(snapshot.sessions)
    order = np.lexsort((snapshot.stamps_ns, sessions))
    same = np.diff(sessions[order]) == 0
    pairs = np.stack([order[:-1], order[1:]], axis=1)[same]
    return position[pairs].astype(np.float32) if len(pairs) else no_segment(position[0])


def pair_segments(snapshot: Snapshot, position: np.ndarray, loops: tuple[Loop, ...]) -> np.ndarray:
    """Segments (S, 2, 3) between the keyframes of each loop."""
    row = {int(i): k for k, i in enumerate(snapshot.keyframe_ids)}
    pairs = [
        (row[loop.source_id], row[loop.target_id])
        for loop in loops
        if loop.source_id in row and loop.target_id in row
    ]
    segments: np.ndarray = position[np.array(pairs, int).reshape(-1, 2)].astype(np.float32)
    return segments


def no_segment(position: np.ndarray) -> np.ndarray:
    """A segment without length: the page wants one at least."""
    return np.tile(position, (1, 2, 1)).astype(np.float32)


def spacing(points: np.ndarray) -> float:
    """Metres between neighbouring points: so large each is drawn, and surfaces are closed."""
    if len(points) < 2:
        return 0.02
    some = points[:: max(1, len(points) // SAMPLED)]
    distance = cKDTree(points).query(some, k=2)[0][:, 1]
    return max(float(1.3 * np.median(distance)), 1e-3)
