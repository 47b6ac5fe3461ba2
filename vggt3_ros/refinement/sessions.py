"""Several runs of front ends in one map: each has odometry in a frame of its own, and must be
localized in the map before it joins.
"""

from collections.abc import Callable, Collection

import numpy as np

from vggt3_ros.refinement.merging import carried_on
from vggt3_ros.refinement.placing import LoadError, Localized, place
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.stored_poses import StoredPoses


def in_one_frame(
    poses: StoredPoses,
    snapshot: Snapshot | None,
    placed: Collection[int],
    localized: Callable[[int], Localized],
    step: Callable[[], object],
) -> tuple[StoredPoses, np.ndarray, dict[str, str]]:
    """Bring the sessions that have a place in the map into its frame.

    snapshot: the last one, None without. placed: sessions that merging has placed. localized(id)
    localizes a keyframe in the last snapshot. step() is called between images and may raise to
    stop.

    A session has a place when the snapshot contains a part of it, when it is one of those
    `placed`, or when some of its keyframes are localized without a hint. The first session defines
    the frame of a map that does not exist yet.

    Return (StoredPoses of the sessions that have a place, their T_map_cam (N, 4, 4) as far as
    known, {session as text: why it has none}).
    """
    T_map_cam = poses.T_odom_cam.copy()
    waiting: dict[int, str] = {}
    held: dict[int, np.ndarray] = (
        {} if snapshot is None else dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam))
    )
    for session in np.unique(poses.sessions).tolist():
        rows = poses.sessions == session
        run = poses.only(rows)
        if not held.keys().isdisjoint(run.ids.tolist()):
            T_map_cam[rows] = carried_on(run, held)
        elif session not in placed and (held or session != poses.sessions[0]):
            try:
                T_map_cam[rows] = _found(run, snapshot, localized, step) @ run.T_odom_cam
            except LoadError as error:
                waiting[session] = str(error)
    inside = ~np.isin(poses.sessions, list(waiting))
    return (
        poses.only(inside),
        T_map_cam[inside],
        {str(session): reason for session, reason in waiting.items()},
    )


def _found(
    poses: StoredPoses,
    snapshot: Snapshot | None,
    localized: Callable[[int], Localized],
    step: Callable[[], object],
) -> np.ndarray:
    """Return T_map_odom (4, 4) of a session. Raises LoadError when it cannot be localized."""
    if snapshot is None:
        raise LoadError("no_map", "there is no refined map yet in which to localize it")

    def look(k: int) -> Localized:
        step()
        return localized(int(poses.ids[k]))

    return place(poses.T_odom_cam, look, breaks=True)
