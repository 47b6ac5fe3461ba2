"""Several runs of front ends in one map: each has odometry in a frame of its own, and has to be found in the map before it joins it."""

import numpy as np

from vggt3_ros.refinement.merging import LoadError, carried_on, place
from vggt3_ros.store.sessions import placed_sessions


def in_one_frame(store, poses, snapshot, localize, step):
    """StoredPoses -> (those whose session has a place in the map, their T_map_cam (N, 4, 4) as far as known, {session as text: why not}).

    A session has a place where the last snapshot (None without) holds some of it, where merging put it, or where localizing some of its
    keyframes without a hint says so; the first one makes the frame of a map that does not exist yet. localize(image, camera) ->
    Localization in the last snapshot's map; step() is called between images.
    """
    T_map_cam, waiting = poses.T_odom_cam.copy(), {}
    held = {} if snapshot is None else dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam))
    placed = placed_sessions(store)
    for session in np.unique(poses.sessions).tolist():
        rows = np.flatnonzero(poses.sessions == session)
        known = [i for i in rows if int(poses.ids[i]) in held]
        if known:
            T_map_cam[rows] = carried_on(poses.only(np.isin(np.arange(len(poses)), rows)), held)
        elif session not in placed and (held or session != poses.sessions[0]):
            try:
                T_map_cam[rows] = _found(store, poses, rows, snapshot, localize, step) @ poses.T_odom_cam[rows]
            except LoadError as error:
                waiting[session] = str(error)
    inside = ~np.isin(poses.sessions, list(waiting))
    return poses.only(inside), T_map_cam[inside], {str(session): reason for session, reason in waiting.items()}


def _found(store, poses, rows, snapshot, localize, step):
    if snapshot is None:
        raise LoadError("no_map", "there is no refined map yet to find it in")

    def look(image, camera):
        step()
        return localize(image, camera)

    return place(store, poses.ids[rows], poses.T_odom_cam[rows], look)
