"""Several runs of front ends in one map: each has odometry in a frame of its own, and has to be
found in the map before it joins it.
"""

import numpy as np

from vggt3_ros.refinement.merging import carried_on
from vggt3_ros.refinement.placing import LoadError, place


def in_one_frame(poses, snapshot, placed, localized, step):
    """StoredPoses -> (those whose session has a place in the map, their T_map_cam (N, 4, 4) as far
    as known, {session as text: why not}).

    A session has a place where the last snapshot (None without) holds some of it, where it is one
    of those `placed`, by merging, or where localizing some of its keyframes without a hint says
    so; the first one makes the frame of a map that does not exist yet. localized(id) ->
    Localization of a keyframe in the last snapshot's map; step() is called between images.
    """
    T_map_cam, waiting = poses.T_odom_cam.copy(), {}
    held = (
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


def _found(poses, snapshot, localized, step):
    """T_map_odom (4, 4) of a session's StoredPoses. LoadError where it is not found."""
    if snapshot is None:
        raise LoadError("no_map", "there is no refined map yet to find it in")

    def look(k):
        step()
        return localized(int(poses.ids[k]))

    return place(poses.T_odom_cam, look, breaks=True)
