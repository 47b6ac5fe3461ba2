"""The memories of a map: one for each group of keyframes, each in a frame of its own that moves with its keyframes.

The published method keeps a scene in one MLP, whose fixed size is its limit. Here the keyframes are grouped (grouping.py), each group
has a memory, and all groups share the map's frame: after a loop closure that moves a group as a whole nothing is learned again, its frame
moves. A query asks the few memories whose keyframes look like it.
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vggt3_ros.arrays import load_arrays
from vggt3_ros.geometry import se3
from vggt3_ros.mapping.candidates import near_pose

FOLDER = "submaps"
INDEX_FILE = "index.npz"
SHAPES = {"number": ("i8", "S", ()), "keyframes": ("i8", "S", ()), "distilled": ("i8", "S", ()), "T_map_submap": ("f8", "S", (4, 4)),
          "counted": ("i8", "S", ()), "keyframe_ids": ("i8", "K", ()), "T_submap_cam": ("f8", "K", (4, 4)), "cells": ("i8", "C", ())}
OLD_FILE = "memory.safetensors"  # of snapshots of format 1, which had one memory of all keyframes
VOTERS = 12  # keyframes that look most like an image; a memory is asked in the order of its members' votes
LEVER_M = 1.5  # a turn moves what a keyframe sees this far away


@dataclass(frozen=True, eq=False)
class Submap:
    """A group of keyframes and the file of its memory.

    number: its own for ever. keyframe_ids (K,) int64: its members; T_submap_cam (K, 4, 4): where they were, in the submap's frame, when
    the memory was distilled (the first `distilled` of them) or they joined. T_map_submap (4, 4). cells: codes of
    the space they see, in the submap's frame (grouping.surface_cells), or
    None where that was never counted. path: of the memory's file (None: not distilled yet); validation_error_m, steps: as in SceneMemory.
    """

    number: int
    keyframe_ids: np.ndarray
    T_submap_cam: np.ndarray
    T_map_submap: np.ndarray
    cells: np.ndarray | None
    distilled: int = 0
    path: Path | None = None
    validation_error_m: float = float("inf")
    steps: int = 0

    def __len__(self):
        return len(self.keyframe_ids)

    def placed(self, pose_of):
        """The Submap where its keyframes are now: the rigid motion that fits them best on average. pose_of: {id: T_map_cam}."""
        T_map_submap = se3.mean_motion([pose_of[int(i)] for i in self.keyframe_ids], self.T_submap_cam)
        return replace(self, T_map_submap=T_map_submap)

    def strain(self, pose_of):
        """Metres by which its keyframes have moved against each other since the memory was distilled, on average."""
        if not self.distilled:
            return 0.0
        now = np.array([pose_of[int(i)] for i in self.keyframe_ids[:self.distilled]])
        apart = se3.inverse(self.T_map_submap @ self.T_submap_cam[:self.distilled]) @ now
        return float(np.mean(np.linalg.norm(apart[:, :3, 3], axis=1) + LEVER_M * se3.rotation_angle(apart)))


class Submaps:
    """An immutable set of Submaps; memory(submap) may be called from any thread.

    cache: MemoryCache that reads the files and keeps the last used.
    """

    def __init__(self, submaps, cache):
        self.submaps, self._cache = tuple(submaps), cache
        self._of = {int(i): k for k, submap in enumerate(self.submaps) for i in submap.keyframe_ids}

    def __len__(self):
        return len(self.submaps)

    def __iter__(self):
        return iter(self.submaps)

    def memory(self, submap):
        """Its SceneMemory, whose points are in the submap's frame. ValueError when the file cannot be read."""
        return self._cache(submap.path)

    def hold_these(self):
        """Of what is kept loaded, forget what is not of these: superseded memories."""
        self._cache.only(submap.path for submap in self.ready)

    @property
    def ready(self):
        """Those that have a memory."""
        return [submap for submap in self.submaps if submap.path is not None]

    @property
    def validation_error_m(self):
        """Median error on pairs that were held out, averaged over the keyframes, metres."""
        return float(np.average([s.validation_error_m for s in self.ready], weights=[len(s) for s in self.ready]))

    @property
    def steps(self):
        return sum(submap.steps for submap in self.submaps)

    def likely(self, most, features, places, snapshot, hint=None):
        """At most `most` Submaps that may show what `features` (Features of an image) shows, the likeliest first.

        places: PlaceIndex of the snapshot's keyframes, or None. Where there are more, those whose members look most like the image are
        taken, and before them those around hint (T_map_cam).
        """
        if len(self.ready) <= 1:
            return self.ready
        votes = np.zeros(len(self.submaps))
        for rank, index in enumerate(near_pose(snapshot.T_map_cam, hint, 3, ()) if hint is not None else ()):
            self._vote(votes, snapshot.keyframe_ids[index], VOTERS / (1 + rank))
        if places is not None:
            for index, similarity in places.ranked(features, VOTERS):
                self._vote(votes, snapshot.keyframe_ids[index], similarity)
        order = [k for k in np.argsort(-votes, kind="stable") if self.submaps[k].path is not None and (votes[k] > 0 or places is None)]
        return [self.submaps[k] for k in order[:most]]

    def _vote(self, votes, keyframe_id, weight):
        k = self._of.get(int(keyframe_id))
        if k is not None:
            votes[k] += max(weight, 0.0)

    def renumbered(self, new_ids):
        """The same under other keyframe ids ({old: new}; those not named stay)."""
        new = lambda ids: np.array([new_ids.get(int(i), int(i)) for i in ids], np.int64)
        return Submaps([replace(submap, keyframe_ids=new(submap.keyframe_ids)) for submap in self.submaps], self._cache)

    def save(self, folder):
        """Write into `folder` (of a snapshot). Files of memories that did not change are linked, not copied."""
        folder = Path(folder) / FOLDER
        folder.mkdir()
        for submap in self.submaps:
            if submap.path is not None:
                _link(submap.path, folder / _file_name(submap.number))
        ids = [s.keyframe_ids for s in self.submaps]
        counted = [s.cells if s.cells is not None else np.zeros(0, np.int64) for s in self.submaps]
        with open(folder / INDEX_FILE, "wb") as file:
            np.savez(file, number=np.array([s.number for s in self.submaps], np.int64), keyframes=np.array([len(i) for i in ids], np.int64),
                     distilled=np.array([s.distilled for s in self.submaps], np.int64),
                     keyframe_ids=_joined(ids, np.int64),
                     T_submap_cam=_joined([s.T_submap_cam for s in self.submaps], float).reshape(-1, 4, 4),
                     T_map_submap=np.array([s.T_map_submap for s in self.submaps]).reshape(-1, 4, 4),
                     counted=np.array([-1 if s.cells is None else len(s.cells) for s in self.submaps], np.int64),
                     cells=_joined(counted, np.int64))
            file.flush()
            os.fsync(file.fileno())

    def moved_to(self, folder):
        """The same, its files where :meth:`save` put them."""
        return Submaps([s if s.path is None else replace(s, path=Path(folder) / FOLDER / _file_name(s.number)) for s in self.submaps],
                       self._cache)

    @classmethod
    def load(cls, folder, snapshot, cache):
        """What :meth:`save` wrote beside `snapshot`, or the one memory of an older version; None without any. ValueError naming the file
        that is damaged."""
        folder = Path(folder)
        if (folder / OLD_FILE).exists():
            error, steps = cache.facts(folder / OLD_FILE)
            one = Submap(1, snapshot.keyframe_ids, snapshot.T_map_cam, np.eye(4), None, len(snapshot), folder / OLD_FILE, error, steps)
            return cls([one], cache)
        path = folder / FOLDER / INDEX_FILE
        if not path.exists():
            return None
        try:
            arrays = _checked(load_arrays(path, SHAPES), snapshot)
            members, counted = np.cumsum(arrays["keyframes"]), np.cumsum(np.maximum(arrays["counted"], 0))
            ids, poses = np.split(arrays["keyframe_ids"], members[:-1]), np.split(arrays["T_submap_cam"], members[:-1])
            cells = np.split(arrays["cells"], counted[:-1])
            submaps = []
            for k, number in enumerate(arrays["number"].tolist()):
                file = folder / FOLDER / _file_name(number)
                facts = (file, *cache.facts(file)) if file.exists() else ()
                submaps.append(Submap(number, ids[k], poses[k], arrays["T_map_submap"][k], cells[k] if arrays["counted"][k] >= 0 else None,
                                      int(arrays["distilled"][k]), *facts))
            return cls(submaps, cache)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is not a readable index of submaps: {error}") from error


def _checked(arrays, snapshot):
    """The arrays of an index, found to agree with each other and with the snapshot; ValueError."""
    lengths = {}
    for name, (dtype, count, shape) in SHAPES.items():
        array = arrays[name]
        if (array.dtype != np.dtype(dtype) or array.ndim < 1 or array.shape[1:] != shape
                or lengths.setdefault(count, len(array)) != len(array)):
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
    ids, members, counted = arrays["keyframe_ids"], arrays["keyframes"], arrays["counted"]
    if len(np.unique(ids)) != len(ids) or not set(ids.tolist()) <= set(snapshot.keyframe_ids.tolist()):
        raise ValueError("it is of other keyframes than its snapshot")
    if (not len(members) or members.min() < 1 or members.sum() != len(ids) or counted.min() < -1
            or np.maximum(counted, 0).sum() != lengths["C"] or (arrays["distilled"] < 0).any()
            or (arrays["distilled"] > members).any() or arrays["cells"].min(initial=0) < 0
            or arrays["number"].min() < 1 or len(np.unique(arrays["number"])) != len(members)):
        raise ValueError("its counts do not agree")
    for name in ("T_map_submap", "T_submap_cam"):
        for pose in arrays[name]:
            se3.check(pose, name)
    return arrays


def _file_name(number):
    return f"{number:06d}.safetensors"


def _joined(arrays, dtype):
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(a, dtype).ravel() for a in arrays)])


def _link(source, target):
    """A second name of a file that is never written to again; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
