"""Maps without images put together: their scene memories find each other, and are served as one.
Nothing is refined.
"""

import json
from dataclasses import replace

import numpy as np

from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.geometry import se3
from vggt3_ros.memory.folding import densest
from vggt3_ros.memory.scene_memory import SceneMemory, united
from vggt3_ros.memory.views import view
from vggt3_ros.refinement.merging import Loaded, before_ours, newest_snapshot, open_map
from vggt3_ros.refinement.placing import LoadError, place
from vggt3_ros.store.database import PLACED
from vggt3_ros.store.sessions import add_without_images, placed_sessions
from vggt3_ros.store.snapshot import MEMORY_FILE, Snapshot
from vggt3_ros.surface.fusion import empty_map

KNOWN = 0.5  # of a memory's keys, to the bit: it was made of the same keyframes


def join(store, folder, scene, recognise, config):
    """Add a saved map to `store`, which holds one without images: Loaded. A new snapshot of both
    lies on the disk then, for a Backend made anew.

    scene: the Scene in force; recognise(frame) -> Localization in it by the scene memory alone;
    config: MemoryConfig. The loaded keyframes get new ids and come as sessions of their own before
    ours; those that the loaded map was not refined with are left out. All or nothing: the snapshot
    is there before its keyframes are, and none is served without them (Scenes). Raises LoadError
    as merging.merge does.
    """
    if scene is None or scene.memory is None:
        raise LoadError("no_map", "there is no scene memory yet to find the loaded map in")
    other, loaded = open_map(folder)
    with other:
        memory = _memory(other, loaded)
        if memory.shared(scene.memory) > KNOWN:
            raise LoadError(
                "conflict",
                f"most of what {folder} remembers is held already: a map is joined once",
            )
        cameras = {int(i): other.camera(int(i)).undistorted() for i in loaded.keyframe_ids}
        seen = [
            view(memory, camera, pose) for camera, pose in zip(cameras.values(), loaded.T_map_cam)
        ]
        T_map_loaded = place(loaded.T_map_cam, lambda k: recognise(seen[k]))
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


def _memory(store, snapshot):
    """The SceneMemory saved beside the newest snapshot. LoadError where it cannot be read."""
    path = newest_snapshot(store) / MEMORY_FILE
    if not path.exists():
        raise LoadError(
            "no_map",
            f"{store.folder} has no scene memory to be found by: refine it, and save it again",
        )
    try:
        return SceneMemory.load(path).placed(
            dict(zip(snapshot.keyframe_ids.tolist(), snapshot.T_map_cam))
        )
    except (KeyError, ValueError) as error:
        raise LoadError(
            "unreadable", f"{path} does not belong to its snapshot: {error}"
        ) from error


def _moved(loaded, T_map_loaded, new_ids, sessions):
    """A Snapshot in our frame, under new ids, in sessions of ours; its odometry is where it was
    corrected to.
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


def _snapshot_of_both(theirs, ours, generation):
    """Snapshot: theirs first, as its sessions come before ours, and no cloud; the report is ours
    but for what it counts.
    """
    arrays = {
        name: np.concatenate([getattr(theirs, name), getattr(ours, name)])
        for name in (
            "keyframe_ids",
            "stamps_ns",
            "T_map_cam",
            "T_odom_cam",
            "covariances",
            "sessions",
        )
    }
    report = dict(
        ours.report,
        keyframes=len(arrays["keyframe_ids"]),
        sessions=len(np.unique(arrays["sessions"])),
    )
    return replace(
        ours,
        generation=generation,
        cloud=empty_map(),
        loops=theirs.loops + ours.loops,
        report=report,
        **arrays,
    )


def _places(ours, seen):
    """PlaceIndex over the Frames `seen` and then all that ours is over, in our vocabulary; None
    where we have none.
    """
    if ours is None:
        return None
    shown = PlaceIndex(ours.centres, ours.vectors[:0], ours.learned_from).regrown(
        [-1] * len(seen), lambda k: seen[k].features
    )
    return PlaceIndex(
        ours.centres, np.concatenate([shown.vectors, ours.vectors]), ours.learned_from
    )
