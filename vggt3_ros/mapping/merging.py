"""A saved map into a store: in place of what it holds, or into it, placed by localizing some of its images."""

import json
import shutil
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.mapping.snapshot import Snapshot
from vggt3_ros.mapping.store import LOADED, SEGMENTS, KeyframeStore

FIRST_ID = 2**62  # of merged keyframes; front ends count from zero
TRIED = 24  # images localized at most to place a map
AGREEING = 4  # of these must agree on where it lies, and be most of those localized
ENOUGH = 8  # when so many agree, and three quarters of those localized, no more are tried
AGREE_M, AGREE_RAD = 0.3, 0.1  # per camera: both maps may still be bent by so much


class LoadError(ValueError):
    """The map cannot be loaded, and nothing was changed. code: unreadable, conflict, no_map or not_localized."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, eq=False)
class Loaded:
    """generation: of the snapshot in force now; added: keyframes loaded; T_map_loaded (4, 4): loaded map's frame in ours."""

    generation: int
    added: int
    T_map_loaded: np.ndarray


def replace(store, folder):
    """Forget everything in `store` (KeyframeStore) and copy what save_map wrote to `folder`: Loaded. A kill in between leaves keyframes
    without a snapshot, never a snapshot of other keyframes."""
    other, snapshot = _open(folder)
    with other:
        used = [int(path.name) for path in store.snapshots.glob("[0-9]" * 6)]
        generation = max(used, default=0) + 1
        arriving = store.folder / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        target = arriving / f"{generation:06d}"
        shutil.copytree(_newest(other), target)
        Snapshot.renumber(target, generation)
        leaving = store.folder / "leaving"
        shutil.rmtree(leaving, ignore_errors=True)
        store.snapshots.mkdir(exist_ok=True)
        store.snapshots.rename(leaving)
        ids = other.ids()
        try:
            store.absorb(other, dict(zip(ids, ids)), other.poses().T_odom_cam,
                         {LOADED: str(folder), SEGMENTS: other.get_note(SEGMENTS) or "[]"}, clear=True)
        except BaseException:
            leaving.rename(store.snapshots)
            raise
        arriving.rename(store.snapshots)
        shutil.rmtree(leaving)
    return Loaded(generation, len(snapshot), np.eye(4))


def merge(store, folder, snapshot, localize):
    """Add the keyframes of a saved map to `store` under new ids: Loaded.

    snapshot: the Snapshot in force (None: LoadError); localize(image, camera) -> Localization in it. The loaded keyframes enter with their
    corrected poses, moved into our map, as odometry of a segment of their own; the next refinement finds the loops between both.
    """
    if snapshot is None:
        raise LoadError("no_map", "there is no refined map yet to localize the loaded images in: refine first")
    other, loaded = _open(folder)
    with other:
        ours, theirs = store.poses(), other.poses()
        if theirs.stamps_ns[-1] >= ours.stamps_ns[0]:
            raise LoadError("conflict", "its keyframes must all be older than those held; its newest is of "
                            f"{theirs.stamps_ns[-1] / 1e9:.3f} s, the oldest held of {ours.stamps_ns[0] / 1e9:.3f} s")
        T_loaded_cam = _corrected(theirs, loaded)
        T_map_loaded = place(other, theirs.ids, T_loaded_cam, localize)
        first = max([FIRST_ID - 1, *(int(id) for id in ours.ids if id >= FIRST_ID)]) + 1
        new_ids = {int(id): first + k for k, id in enumerate(theirs.ids)}
        starts = [new_ids[id] for id in json.loads(other.get_note(SEGMENTS) or "[]") if id in new_ids]
        starts += json.loads(store.get_note(SEGMENTS) or "[]") + [int(ours.ids[0])]
        # The map frame is that of odometry where our run began: before it, odometry is in the map frame.
        store.absorb(other, new_ids, T_map_loaded @ T_loaded_cam, {SEGMENTS: json.dumps(sorted(set(starts)))})
    return Loaded(snapshot.generation, len(new_ids), T_map_loaded)


def place(other, ids, T_loaded_cam, localize):
    """T_map_loaded (4, 4) that most localized images of the store `other` agree on. LoadError when they do not."""
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(TRIED, len(ids))).round().astype(int))
    seen, T_map_cam, agree = [], [], np.zeros(0, bool)
    for tried, k in enumerate(np.random.default_rng(0).permutation(chosen), 1):
        keyframe = other.get(int(ids[k]))
        found = localize(keyframe.image, keyframe.camera)
        if found.T_map_cam is not None:
            seen.append(k)
            T_map_cam.append(found.T_map_cam)
            agree = _agreeing(np.array(T_map_cam), T_loaded_cam[seen])
        if agree.sum() >= ENOUGH and 4 * agree.sum() >= 3 * len(seen):
            break
    if agree.sum() < AGREEING or 2 * agree.sum() <= len(seen):
        raise LoadError("not_localized", f"{len(seen)} of {tried} images of it were found in the map held, {agree.sum()} agree on "
                        f"where it lies; {AGREEING} must, and most of those found: do both maps show the same place?")
    return _mean(np.array(T_map_cam)[agree], T_loaded_cam[seen][agree])


def _agreeing(T_map_cam, T_loaded_cam):
    """The largest set, as a mask, of cameras (N, 4, 4) that see the loaded frame where one of them does."""
    best = np.zeros(len(T_map_cam), bool)
    for candidate in T_map_cam @ se3.inverse(T_loaded_cam):
        apart = se3.inverse(T_map_cam) @ candidate @ T_loaded_cam
        agree = (np.linalg.norm(apart[:, :3, 3], axis=1) < AGREE_M) & (se3.rotation_angle(apart) < AGREE_RAD)
        best = agree if agree.sum() > best.sum() else best
    return best


def _mean(T_map_cam, T_loaded_cam):
    """Average T_map_loaded, taken in the cameras' middle: there their rotation errors do not lever it away."""
    middle = np.eye(4)
    middle[:3, 3] = T_loaded_cam[:, :3, 3].mean(axis=0)
    T_map_middle = T_map_cam @ se3.inverse(T_loaded_cam) @ middle
    twists = [se3.log(step) for step in se3.inverse(T_map_middle[0]) @ T_map_middle]
    return se3.orthonormalize(T_map_middle[0] @ se3.exp(np.mean(twists, axis=0)) @ se3.inverse(middle))


def _corrected(poses, snapshot):
    """(N, 4, 4) of the stored keyframes in their map; those that were never refined are carried on by odometry."""
    held = dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam))
    return np.array([held.get(int(id), snapshot.T_map_odom @ pose) for id, pose in zip(poses.ids, poses.T_odom_cam)])


def _newest(store):
    folders = sorted(store.snapshots.glob("[0-9]" * 6))
    if not folders:
        raise ValueError(f"{store.folder} holds keyframes, but no refined map")
    return folders[-1]


def _open(folder):
    """(KeyframeStore, newest Snapshot) of a saved map, not to be written to."""
    try:
        store = KeyframeStore(folder, read_only=True)
    except ValueError as error:
        raise LoadError("unreadable", str(error)) from error
    try:
        snapshot = Snapshot.load(_newest(store))
        if not len(snapshot) or not set(snapshot.keyframe_ids.tolist()) <= set(store.ids()):
            raise ValueError(f"{folder}: the map was made from other keyframes than those beside it")
        return store, snapshot
    except ValueError as error:
        store.close()
        raise LoadError("unreadable", str(error)) from error
