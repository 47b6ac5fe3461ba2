"""A saved map into a store: in place of what it holds, or into it."""

import json
import shutil
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.placing import LoadError, place
from vggt3_ros.store import durable
from vggt3_ros.store.database import PLACED, SESSION
from vggt3_ros.store.keyframes import ASIDE, IMAGES, LOADED, NEXT_ID, KeyframeStore
from vggt3_ros.store.sessions import add_all, held_already, placed_sessions, replace_all
from vggt3_ros.store.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Loaded:
    """generation: of the snapshot in force now; added: keyframes loaded; T_map_loaded (4, 4):
    loaded map's frame in ours.
    """

    generation: int
    added: int
    T_map_loaded: np.ndarray


def replace(store, folder):
    """Forget everything in `store` (KeyframeStore) and take what save_map wrote to `folder`:
    Loaded. All or nothing, whenever it is ended: the saved map's snapshot is there before its
    keyframes are, the old ones until after; none is served without its keyframes (Scenes).
    """
    other, snapshot = open_map(folder)
    with other:
        theirs = other.poses(aside=True)
        notes = {
            LOADED: str(folder),
            SESSION: str(max(other.session, int(theirs.sessions.max()))),
            PLACED: json.dumps(placed_sessions(other)),
            ASIDE: other.get_note(ASIDE) or "{}",
            **({} if other.has_images else {IMAGES: "none"}),
        }
        if other.get_note(NEXT_ID):
            notes[NEXT_ID] = other.get_note(NEXT_ID)
        held = sorted(store.snapshots.glob("[0-9]" * 6))
        generation = max((int(path.name) for path in held), default=0) + 1
        arriving, target = store.folder / "arriving", store.snapshots / f"{generation:06d}"
        shutil.rmtree(arriving, ignore_errors=True)
        durable.make_folder(store.snapshots)
        try:
            shutil.copytree(newest_snapshot(other), arriving)
            Snapshot.renumber(arriving, generation)
            durable.rename(arriving, target)
            replace_all(store, other, theirs.T_odom_cam, theirs.sessions, notes)
        except BaseException:
            shutil.rmtree(arriving, ignore_errors=True)
            Snapshot.remove(target)
            raise
        for path in held:
            Snapshot.remove(path)
    return Loaded(generation, len(snapshot), np.eye(4))


def merge(store, folder, snapshot, localize):
    """Add the keyframes of a saved map, or of a store, to `store` under new ids: Loaded.

    snapshot: the Snapshot in force (None: LoadError); localize(image, camera) -> Localization in
    it. The loaded keyframes enter with their corrected poses, moved into our map, as odometry of
    sessions of their own that come before ours, whatever their stamps; the next refinement finds
    the loops between both.
    """
    if snapshot is None:
        raise LoadError(
            "no_map", "there is no refined map yet to localize the loaded images in: refine first"
        )
    other, loaded = open_map(folder)
    with other:
        if not (store.has_images and other.has_images):
            raise LoadError(
                "conflict",
                f"{folder if store.has_images else store.folder} was saved without images, and this map is refined with them: "
                "`vggt3 merge` makes one map without images of both",
            )
        ours, theirs = store.poses(), other.poses()
        twice = held_already(store, other)
        if twice:
            raise LoadError(
                "conflict",
                f"{twice} of its {len(theirs)} keyframes are held already: a map is merged once",
            )
        theirs, T_loaded_cam = _corrected(theirs, loaded)
        T_map_loaded = place(
            T_loaded_cam, lambda k: _localized(other.get(int(theirs.ids[k])), localize)
        )
        sessions = before_ours(theirs.sessions, ours.sessions)
        placed = sorted({*placed_sessions(store), *sessions.tolist()})
        add_all(
            store,
            other,
            theirs.ids,
            T_map_loaded @ T_loaded_cam,
            sessions,
            {PLACED: json.dumps(placed)},
        )
    return Loaded(snapshot.generation, len(theirs), T_map_loaded)


def before_ours(theirs, ours):
    """Session numbers (N,) of a loaded map -> (N,) below `ours` and negative: new keyframes go on
    with the highest, and the first that is not negative gives the map its frame.
    """
    numbers, rank = np.unique(theirs, return_inverse=True)
    return min(int(ours.min()), 0) - len(numbers) + rank


def _localized(keyframe, localize):
    return localize(keyframe.image, keyframe.camera)


def carried_on(poses, held):
    """StoredPoses of one session, {id: T_map_cam} with some of them -> (N, 4, 4): the others are
    where odometry takes them from there.
    """
    first = next(i for i, keyframe_id in enumerate(poses.ids) if int(keyframe_id) in held)
    T_map_odom, out = held[int(poses.ids[first])] @ se3.inverse(poses.T_odom_cam[first]), []
    for keyframe_id, pose in zip(poses.ids, poses.T_odom_cam):
        if int(keyframe_id) in held:
            T_map_odom = held[int(keyframe_id)] @ se3.inverse(pose)
        out.append(T_map_odom @ pose)
    return np.array(out)


def _corrected(poses, snapshot):
    """(StoredPoses of the sessions that the map has, their T_map_cam (N, 4, 4)); those never
    refined are carried on by odometry.
    """
    held = dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam))
    poses = poses.only(
        np.isin(poses.sessions, poses.sessions[np.isin(poses.ids, snapshot.keyframe_ids)])
    )
    return poses, np.concatenate(
        [
            carried_on(poses.only(poses.sessions == session), held)
            for session in np.unique(poses.sessions)
        ]
    )


def open_store(folder):
    """KeyframeStore of a saved map or store, not to be written to. LoadError when it cannot be
    read.
    """
    try:
        return KeyframeStore(folder, read_only=True)
    except ValueError as error:
        raise LoadError("unreadable", str(error)) from error


def newest_snapshot(store):
    """Folder of the newest Snapshot of a KeyframeStore. ValueError without one."""
    folders = sorted(store.snapshots.glob("[0-9]" * 6))
    if not folders:
        raise ValueError(f"{store.folder} holds keyframes, but no refined map")
    return folders[-1]


def open_map(folder):
    """(KeyframeStore, newest Snapshot) of a saved map, not to be written to."""
    store = open_store(folder)
    try:
        snapshot = Snapshot.load(newest_snapshot(store))
        if not len(snapshot) or store.lacks(snapshot.keyframe_ids, snapshot.stamps_ns):
            raise ValueError(
                f"{folder}: the map was made from other keyframes than those beside it"
            )
        return store, snapshot
    except ValueError as error:
        store.close()
        raise LoadError("unreadable", str(error)) from error
