"""Join maps that were saved without images: their scene memories are registered to each other and
served as one. Nothing is refined.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vggt3_ros.config import MemoryConfig
from vggt3_ros.features.frame import Frame
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.geometry import se3
from vggt3_ros.memory.folding import densest
from vggt3_ros.memory.localizer import Localization
from vggt3_ros.memory.scene_memory import SceneMemory, united
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.memory.views import view
from vggt3_ros.refinement.merging import Loaded, before_ours, newest_snapshot, open_map
from vggt3_ros.refinement.placing import LoadError, place
from vggt3_ros.store.database import PLACED
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import add_without_images, placed_sessions
from vggt3_ros.store.snapshot import MEMORY_FILE, Snapshot
from vggt3_ros.surface.fusion import empty_map

KNOWN = 0.5  # share of identical keys above which two memories come from the same keyframes


def join(
    store: KeyframeStore,
    folder: Path | str,
    scene: Scene | None,
    recognise: Callable[[Scene, Frame], Localization],
    config: MemoryConfig,
) -> Loaded:
    """Add a saved map to `store`, which holds a map without images.

    scene: the current Scene. recognise(scene, frame) localizes a frame in it by the memory alone.
    The new snapshot of both maps is on disk on return; a new Backend serves it.

    The loaded keyframes get new ids and new sessions, which come before ours. Keyframes that the
    loaded map was not refined with are left out. All or nothing: the snapshot is written before
    its keyframes are, and no snapshot is served without its keyframes (Scenes). Raises LoadError
    as merging.merge does.
    """
    if scene is None or scene.memory is None:
        raise LoadError(
            "no_map", "there is no scene memory yet in which to localize the loaded map"
        )
    other, loaded = open_map(folder)
    with other:
        memory = _memory(other, loaded)
        if memory.shared(scene.memory) > KNOWN:
            raise LoadError(
                "conflict",
                f"this map already contains most of the scene memory of {folder}: a map can be joined only once",
            )
        cameras = {int(i): other.camera(int(i)).undistorted() for i in loaded.keyframe_ids}
        seen = [
            view(memory, camera, pose) for camera, pose in zip(cameras.values(), loaded.T_map_cam)
        ]
        T_map_loaded = place(loaded.T_map_cam, lambda k: recognise(scene, seen[k]))
        with store.database.writing():
            first = store.reserve(len(loaded))
        new_ids = {id: first + k for k, id in enumerate(cameras)}
        held = sorted(store.snapshots.glob("[0-9]" * 6))
        theirs = _moved(
            loaded, T_map_loaded, new_ids, before_ours(loaded.sessions, store.poses().sessions)
        )
        snapshot = _snapshot_of_both(theirs, scene.snapshot, int(held[-1].name) + 1)
        memory = united(memory.renumbered(new_ids), scene.memory)
        memory = memory.only(
            densest(memory.map_points, memory.observed, config.max_slots, config.density)
        )
        memory = memory.placed(dict(zip(snapshot.keyframe_ids.tolist(), snapshot.T_map_cam)))
        snapshot.save(
            store.snapshots / f"{snapshot.generation:06d}", memory, _places(scene.places, seen)
        )
        placed = sorted({*placed_sessions(store), *theirs.sessions.tolist()})
        add_without_images(
            store, other, new_ids, theirs.T_map_cam, theirs.sessions, {PLACED: json.dumps(placed)}
        )
        for old in held:
            Snapshot.remove(old)
    return Loaded(snapshot.generation, len(theirs), T_map_loaded)


def _memory(store: KeyframeStore, snapshot: Snapshot) -> SceneMemory:
    """Load the SceneMemory saved with the newest snapshot. Raises LoadError when it cannot be
    read.
    """
    path = newest_snapshot(store) / MEMORY_FILE
    if not path.exists():
        raise LoadError(
            "no_map",
            f"{store.folder} has no scene memory to localize it by: refine it and save it again",
        )
    try:
        poses = dict(zip(snapshot.keyframe_ids.tolist(), snapshot.T_map_cam))
        memory: SceneMemory = SceneMemory.load(path).placed(poses)
        return memory
    except (KeyError, ValueError) as error:
        raise LoadError(
            "unreadable", f"{path} does not belong to its snapshot: {error}"
        ) from error


def _moved(
    loaded: Snapshot, T_map_loaded: np.ndarray, new_ids: dict[int, int], sessions: np.ndarray
) -> Snapshot:
    """Return the loaded Snapshot in our map's frame, with new ids and sessions. Its corrected
    poses become its odometry.
    """
    T_map_cam = se3.orthonormalize(T_map_loaded @ loaded.T_map_cam)
    turn = np.kron(np.eye(2), T_map_loaded[:3, :3])
    loops = tuple(
        replace(loop, source_id=new_ids[loop.source_id], target_id=new_ids[loop.target_id])
        for loop in loaded.loops
        if loop.source_id in new_ids and loop.target_id in new_ids
    )
    return replace(
        loaded,
        keyframe_ids=np.array([new_ids[int(i)] for i in loaded.keyframe_ids], np.int64),
        T_map_cam=T_map_cam,
        T_odom_cam=T_map_cam,
        covariances=turn @ loaded.covariances @ turn.T,
        loops=loops,
        sessions=sessions,
    )


def _snapshot_of_both(theirs: Snapshot, ours: Snapshot, generation: int) -> Snapshot:
    """Return a Snapshot of both: theirs first, as its sessions come before ours. It has no cloud;
    its report is ours with new counts.
    """

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(theirs, name), getattr(ours, name)])

    keyframe_ids, sessions = both("keyframe_ids"), both("sessions")
    return replace(
        ours,
        generation=generation,
        keyframe_ids=keyframe_ids,
        stamps_ns=both("stamps_ns"),
        T_map_cam=both("T_map_cam"),
        T_odom_cam=both("T_odom_cam"),
        covariances=both("covariances"),
        loops=theirs.loops + ours.loops,
        cloud=empty_map(),
        report=dict(ours.report, keyframes=len(keyframe_ids), sessions=len(np.unique(sessions))),
        sessions=sessions,
    )


def _places(ours: PlaceIndex | None, seen: Sequence[Frame]) -> PlaceIndex | None:
    """Return a PlaceIndex over the Frames `seen`, then over the images of `ours`, with the
    vocabulary of `ours`; None when there is none.
    """
    if ours is None:
        return None
    shown = PlaceIndex(ours.centres, ours.vectors[:0], ours.learned_from).regrown(
        [-1] * len(seen), lambda k: seen[k].features
    )
    return PlaceIndex(
        ours.centres, np.concatenate([shown.vectors, ours.vectors]), ours.learned_from
    )
