"""Load a saved map into a store, either replacing its content or merged with it."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.localizer import Localization
from vggt3_ros.refinement.placing import LoadError, place
from vggt3_ros.store import durable
from vggt3_ros.store.database import PLACED, SESSION
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import ASIDE, IMAGES, LOADED, NEXT_ID, KeyframeStore
from vggt3_ros.store.sessions import add_all, held_already, placed_sessions, replace_all
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.stored_poses import StoredPoses

Localize = Callable[[np.ndarray, Camera], Localization]  # (image, its camera) -> pose in the map


@dataclass(frozen=True, eq=False)
class Loaded:
    """generation: of the current snapshot. added: number of keyframes loaded. T_map_loaded (4,
    4): from the loaded map's frame to that of the current map.
    """

    generation: int
    added: int
    T_map_loaded: np.ndarray


def replace(store: KeyframeStore, folder: Path | str) -> Loaded:
    """Replace everything in `store` by what save_map wrote to `folder`. Raises LoadError when it
    cannot be read.

    All or nothing, whenever the process is killed: the saved snapshot is written before its
    keyframes, and the old snapshots are removed after that. No snapshot is served without its
    keyframes (Scenes).
    """
    other, snapshot = open_map(folder)
    with other:
        theirs = other.poses(aside=True)
        notes: dict[str, str] = {
            LOADED: str(folder),
            SESSION: str(max(other.session, int(theirs.sessions.max()))),
            PLACED: json.dumps(placed_sessions(other)),
            ASIDE: other.get_note(ASIDE) or "{}",
            **({} if other.has_images else {IMAGES: "none"}),
        }
        next_id = other.get_note(NEXT_ID)
        if next_id:
            notes[NEXT_ID] = next_id
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


def merge(
    store: KeyframeStore, folder: Path | str, snapshot: Snapshot | None, localize: Localize
) -> Loaded:
    """Add the keyframes of a saved map or store to `store`, under new ids.

    snapshot: the current Snapshot. localize(image, camera) localizes an image in it. The loaded
    keyframes enter with their corrected poses, transformed to our map, as the odometry of sessions
    of their own, which come before ours whatever their stamps. The next refinement finds the loops
    between both. Raises LoadError, also when there is no snapshot.
    """
    if snapshot is None:
        raise LoadError(
            "no_map",
            "there is no refined map yet in which to localize the loaded images: refine first",
        )
    other, loaded = open_map(folder)
    with other:
        if not (store.has_images and other.has_images):
            raise LoadError(
                "conflict",
                f"{folder if store.has_images else store.folder} was saved without images, which this merge needs: "
                "`vggt3 merge` makes one map without images of both",
            )
        ours, theirs = store.poses(), other.poses()
        twice = held_already(store, other)
        if twice:
            raise LoadError(
                "conflict",
                f"this map already contains {twice} of its {len(theirs)} keyframes: a map can be merged only once",
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


def before_ours(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Renumber the sessions (N,) of a loaded map so that they are negative and below `ours`: new
    keyframes continue the highest session, and the first one that is not negative defines the
    map's frame.
    """
    numbers, rank = np.unique(theirs, return_inverse=True)
    renumbered: np.ndarray = min(int(ours.min()), 0) - len(numbers) + rank
    return renumbered


def _localized(keyframe: Keyframe, localize: Localize) -> Localization:
    return localize(keyframe.image, keyframe.camera)


def carried_on(poses: StoredPoses, held: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return T_map_cam (N, 4, 4) of a session of which `held` {id: T_map_cam} has a part. The
    other poses follow from it by odometry.
    """
    first = next(i for i, keyframe_id in enumerate(poses.ids) if int(keyframe_id) in held)
    T_map_odom = held[int(poses.ids[first])] @ se3.inverse(poses.T_odom_cam[first])
    out: list[np.ndarray] = []
    for keyframe_id, pose in zip(poses.ids, poses.T_odom_cam):
        if int(keyframe_id) in held:
            T_map_odom = held[int(keyframe_id)] @ se3.inverse(pose)
        out.append(T_map_odom @ pose)
    return np.array(out)


def _corrected(poses: StoredPoses, snapshot: Snapshot) -> tuple[StoredPoses, np.ndarray]:
    """Return (StoredPoses of the sessions in the snapshot, their T_map_cam (N, 4, 4)). Keyframes
    that were never refined follow by odometry.
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


def open_store(folder: Path | str) -> KeyframeStore:
    """Open a saved map or store read-only. Raises LoadError when it cannot be read."""
    try:
        return KeyframeStore(folder, read_only=True)
    except ValueError as error:
        raise LoadError("unreadable", str(error)) from error


def newest_snapshot(store: KeyframeStore) -> Path:
    """Return the folder of a store's newest Snapshot. Raises ValueError when there is none."""
    folders = sorted(store.snapshots.glob("[0-9]" * 6))
    if not folders:
        raise ValueError(f"{store.folder} has keyframes but no refined map")
    newest: Path = folders[-1]
    return newest


def open_map(folder: Path | str) -> tuple[KeyframeStore, Snapshot]:
    """Open a saved map read-only; return its store and newest Snapshot. Raises LoadError when
    either cannot be read.
    """
    store = open_store(folder)
    try:
        snapshot = Snapshot.load(newest_snapshot(store))
        if not len(snapshot) or store.lacks(snapshot.keyframe_ids, snapshot.stamps_ns):
            raise ValueError(
                f"{folder}: the snapshot was made from other keyframes than those in the store"
            )
        return store, snapshot
    except ValueError as error:
        store.close()
        raise LoadError("unreadable", str(error)) from error
