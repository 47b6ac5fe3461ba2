"""A saved map into a store: in place of what it holds, or into it, placed by localizing some of its images."""

import json
import shutil
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.store import durable
from vggt3_ros.store.database import PLACED, SESSION
from vggt3_ros.store.keyframes import ASIDE, IMAGES, LOADED, NEXT_ID, KeyframeStore
from vggt3_ros.store.sessions import add_all, held_already, placed_sessions, replace_all
from vggt3_ros.store.snapshot import Snapshot

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
    """Forget everything in `store` (KeyframeStore) and take what save_map wrote to `folder`: Loaded. All or nothing, whenever it is ended: the
    saved map's snapshot is there before its keyframes are, the old ones until after; none is served without its keyframes (Scenes)."""
    other, snapshot = _open(folder)
    with other:
        theirs = other.poses(aside=True)
        notes = {LOADED: str(folder), SESSION: str(max(other.session, int(theirs.sessions.max()))),
                 PLACED: json.dumps(placed_sessions(other)), ASIDE: other.get_note(ASIDE) or "{}", **({} if other.has_images else {IMAGES: "none"})}
        if other.get_note(NEXT_ID):
            notes[NEXT_ID] = other.get_note(NEXT_ID)
        held = sorted(store.snapshots.glob("[0-9]" * 6))
        generation = max((int(path.name) for path in held), default=0) + 1
        arriving, target = store.folder / "arriving", store.snapshots / f"{generation:06d}"
        shutil.rmtree(arriving, ignore_errors=True)
        durable.make_folder(store.snapshots)
        try:
            shutil.copytree(_newest(other), arriving)
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

    snapshot: the Snapshot in force (None: LoadError); localize(image, camera) -> Localization in it. The loaded keyframes enter with their
    corrected poses, moved into our map, as odometry of sessions of their own that come before ours, whatever their stamps; the next
    refinement finds the loops between both.
    """
    if snapshot is None:
        raise LoadError("no_map", "there is no refined map yet to localize the loaded images in: refine first")
    other, loaded = _open(folder)
    with other:
        if not (store.has_images and other.has_images):
            raise LoadError("conflict", f"{folder if store.has_images else store.folder} was saved without images: it can be served, but merging "
                            "ends in a refinement, which needs them")
        ours, theirs = store.poses(), other.poses()
        twice = held_already(store, other)
        if twice:
            raise LoadError("conflict", f"{twice} of its {len(theirs)} keyframes are held already: a map is merged once")
        theirs, T_loaded_cam = _corrected(theirs, loaded)
        T_map_loaded = place(other, theirs.ids, T_loaded_cam, localize)
        numbers, rank = np.unique(theirs.sessions, return_inverse=True)
        # Below ours and negative: new keyframes go on with the highest, and the first that is not negative gives the map its frame.
        sessions = min(int(ours.sessions.min()), 0) - len(numbers) + rank
        placed = sorted({*placed_sessions(store), *sessions.tolist()})
        add_all(store, other, theirs.ids, T_map_loaded @ T_loaded_cam, sessions, {PLACED: json.dumps(placed)})
    return Loaded(snapshot.generation, len(theirs), T_map_loaded)


def merge_all(folders, out, back_end, progress):
    """Maps in `folders`, the first of which gives the frame -> (Snapshot of all, [(folder, Loaded), ...]), written to the new folder `out`.

    Those that were never refined, or not with all their keyframes, are refined first; the folders are left as they are.
    back_end(KeyframeStore) -> a Backend on it; progress(stage, fraction). Raises LoadError.
    """
    for folder in folders:
        _store(folder).close()  # what cannot be read is said before hours are spent
    _copy(folders[0], out)
    with KeyframeStore(out) as store:
        backend, merged = back_end(store), []
        for folder in folders[1:]:
            if backend.snapshot is None or len(backend.snapshot) < len(store):
                backend.refine(progress)
            arriving = out / "arriving"
            _copy(folder, arriving)
            with KeyframeStore(arriving) as other:
                theirs = back_end(other)
                if theirs.snapshot is None or len(theirs.snapshot) < len(other):
                    theirs.refine(progress)
            merged.append((folder, merge(store, arriving, backend.snapshot, backend.localize)))
            shutil.rmtree(arriving)
        return backend.refine(progress), merged


def _copy(folder, target):
    """Keyframes and newest snapshot."""
    target.mkdir()
    with _store(folder) as store:
        store.backup(target)
        for newest in sorted(store.snapshots.glob("[0-9]" * 6))[-1:]:
            shutil.copytree(newest, target / "snapshots" / newest.name)


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
    return se3.mean_motion(np.array(T_map_cam)[agree], T_loaded_cam[seen][agree])


def _agreeing(T_map_cam, T_loaded_cam):
    """The largest set, as a mask, of cameras (N, 4, 4) that see the loaded frame where one of them does."""
    best = np.zeros(len(T_map_cam), bool)
    for candidate in T_map_cam @ se3.inverse(T_loaded_cam):
        apart = se3.inverse(T_map_cam) @ candidate @ T_loaded_cam
        agree = (np.linalg.norm(apart[:, :3, 3], axis=1) < AGREE_M) & (se3.rotation_angle(apart) < AGREE_RAD)
        best = agree if agree.sum() > best.sum() else best
    return best


def carried_on(poses, held):
    """StoredPoses of one session, {id: T_map_cam} with some of them -> (N, 4, 4): the others are where odometry takes them from there."""
    first = next(i for i, keyframe_id in enumerate(poses.ids) if int(keyframe_id) in held)
    T_map_odom, out = held[int(poses.ids[first])] @ se3.inverse(poses.T_odom_cam[first]), []
    for keyframe_id, pose in zip(poses.ids, poses.T_odom_cam):
        if int(keyframe_id) in held:
            T_map_odom = held[int(keyframe_id)] @ se3.inverse(pose)
        out.append(T_map_odom @ pose)
    return np.array(out)


def _corrected(poses, snapshot):
    """(StoredPoses of the sessions that the map has, their T_map_cam (N, 4, 4)); those never refined are carried on by odometry."""
    held = dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam))
    poses = poses.only(np.isin(poses.sessions, poses.sessions[np.isin(poses.ids, snapshot.keyframe_ids)]))
    return poses, np.concatenate([carried_on(poses.only(poses.sessions == session), held) for session in np.unique(poses.sessions)])


def _store(folder):
    try:
        return KeyframeStore(folder, read_only=True)
    except ValueError as error:
        raise LoadError("unreadable", str(error)) from error


def _newest(store):
    folders = sorted(store.snapshots.glob("[0-9]" * 6))
    if not folders:
        raise ValueError(f"{store.folder} holds keyframes, but no refined map")
    return folders[-1]


def _open(folder):
    """(KeyframeStore, newest Snapshot) of a saved map, not to be written to."""
    store = _store(folder)
    try:
        snapshot = Snapshot.load(_newest(store))
        if not len(snapshot) or store.lacks(snapshot.keyframe_ids, snapshot.stamps_ns):
            raise ValueError(f"{folder}: the map was made from other keyframes than those beside it")
        return store, snapshot
    except ValueError as error:
        store.close()
        raise LoadError("unreadable", str(error)) from error
