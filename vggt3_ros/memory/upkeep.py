"""Keeping the memories of a map up to date: new keyframes join submaps, and only what changed is distilled again.

A submap is distilled again when it has new members, or its members moved against each other; one that moved as a whole is not, for its
frame moves. The optimizer steps of a refinement are shared, so that it takes no longer where the map is large.
"""

from dataclasses import dataclass, replace

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.memory.distillation import distil
from vggt3_ros.memory.grouping import choose, moved_cells, surface_cells
from vggt3_ros.memory.pairs import collect_pairs
from vggt3_ros.memory.submaps import Submap, Submaps

# Of a room seen sparsely (48 keyframes, 1200 steps) it took the median error of unseen views from 15 to 12 cm and the share within 10 cm
# from 26 to 39 %; over the dense real kitchen nothing changed (1.3 cm).
KEY_NOISE = 0.3
LEAST_STEPS = 100  # a submap gets in one refinement: fewer would not pay for collecting its pairs


@dataclass(frozen=True, eq=False)
class Stale:
    """A submap to distil: how many of its members are new to its memory, and what the others moved against each other since, metres."""

    submap: Submap
    new: int
    strain_m: float


def grown(submaps, ids, T_map_cam, frames, config, step, renewed=()):
    """Give every new keyframe its submap -> (list of Submap, all placed where their keyframes are now; list of Stale, worst first).

    submaps: of the last snapshot (iterable of Submap); ids: keyframe ids in the order of their stamps; T_map_cam (N, 4, 4); frames(id)
    -> Frame, asked for new keyframes only; config: MemoryConfig; step() is called between keyframes. renewed: ids of keyframes whose
    depth changed.
    """
    pose_of = dict(zip(ids, T_map_cam))
    kept = [submap.placed(pose_of) for submap in submaps if all(int(i) in pose_of for i in submap.keyframe_ids)]
    kept = [submap if submap.cells is not None else _counted(submap, pose_of, frames, config, step) for submap in kept]
    held = {int(i) for submap in kept for i in submap.keyframe_ids}
    groups = [_Group(submap, moved_cells(submap.cells, submap.T_map_submap)) for submap in kept]
    number = max((submap.number for submap in kept), default=0)
    for keyframe_id in ids:
        if keyframe_id in held:
            continue
        step()
        frame = frames(keyframe_id)
        cells = surface_cells(frame, pose_of[keyframe_id], config.max_depth)
        if not len(cells):
            continue  # without depth there is nothing to remember
        k = choose(cells, [(group.cells, len(group)) for group in groups], config.submap_keyframes, config.submap_cells)
        if k is None:
            number += 1
            empty = Submap(number, np.zeros(0, np.int64), np.zeros((0, 4, 4)), np.eye(4), np.zeros(0, np.int64))
            groups.append(_Group(empty, np.zeros(0, np.int64)))
            k = -1
        groups[k].add(frame, pose_of[keyframe_id], cells, config.max_depth)
    stale = [group.stale(pose_of, renewed) for group in groups]
    worst_first = sorted((s for s in stale if s.submap.path is None or s.new or s.strain_m > config.strain),
                         key=lambda s: (s.submap.path is not None, -s.new / len(s.submap) - s.strain_m / max(config.strain, 1e-6)))
    return [s.submap for s in stale], worst_first


def shared_steps(stale, config):
    """Optimizer steps for each Stale: those it would like, or its share of what a refinement may take. 0: it has to wait.

    Submaps without a memory all get some, those that have one wait once the steps are used up; the worst come first.
    """
    wanted = [_first_steps(len(s.submap), config) if s.submap.path is None else config.warm_steps for s in stale]
    share = min(1.0, config.refinement_steps / max(1, sum(wanted)))
    left, out = config.refinement_steps, []
    for s, steps in zip(stale, wanted):
        steps = min(steps, max(LEAST_STEPS, round(share * steps)))
        steps = steps if s.submap.path is None or left >= steps else 0
        left -= steps
        out.append(steps)
    return out


def _first_steps(keyframes, config):
    """A robot that has just started waits for its first map: of ten keyframes, all steps took several times as long as all else."""
    return min(config.steps, max(LEAST_STEPS, config.steps_per_keyframe * keyframes))


def distilled(submap, T_map_cam, frames, config, cache, path, device, progress, steps=None, seconds=None):
    """The Submap with a memory of its keyframes as they stand now (K, 4, 4), written to `path`; None where they show too little.

    frames: iterable of their Frames. It goes on from the memory that the submap has. steps or seconds: as distillation.distil takes them.
    """
    T_submap_cam = se3.inverse(submap.T_map_submap) @ T_map_cam
    pairs = collect_pairs(frames, T_submap_cam, len(submap), config)
    if pairs is None:
        return None
    keys, points, importance = pairs
    initial = cache(submap.path) if submap.path is not None else None
    memory = distil(keys, points, config, importance, initial, steps, seconds, device, progress, key_noise=KEY_NOISE)
    cache.put(path, memory)
    return replace(submap, T_submap_cam=T_submap_cam, distilled=len(submap), path=path,
                   validation_error_m=memory.validation_error_m, steps=memory.steps)


class _Group:
    """A submap that takes members in. cells: in the map's frame."""

    def __init__(self, submap, cells):
        self.submap, self.cells = submap, cells
        self._T_submap_map = se3.inverse(submap.T_map_submap)
        self._ids, self._poses, self._seen = [submap.keyframe_ids], [submap.T_submap_cam], [submap.cells]

    def __len__(self):
        return sum(map(len, self._ids))

    def add(self, frame, T_map_cam, cells, max_depth):
        self.cells = np.union1d(self.cells, cells)
        T_submap_cam = self._T_submap_map @ T_map_cam
        self._ids.append(np.array([frame.id], np.int64))
        self._poses.append(T_submap_cam[None])
        self._seen.append(surface_cells(frame, T_submap_cam, max_depth))

    def stale(self, pose_of, renewed):
        submap = replace(self.submap, keyframe_ids=np.concatenate(self._ids), T_submap_cam=np.concatenate(self._poses),
                         cells=np.unique(np.concatenate(self._seen)))
        new = len(submap) - submap.distilled + sum(int(i) in renewed for i in submap.keyframe_ids[:submap.distilled])
        return Stale(submap, new, submap.strain(pose_of))


def _counted(submap, pose_of, frames, config, step):
    """With the cells of a submap that an older version made."""
    cells = np.zeros(0, np.int64)
    for k in map(int, submap.keyframe_ids):
        step()
        cells = np.union1d(cells, surface_cells(frames(k), se3.inverse(submap.T_map_submap) @ pose_of[k], config.max_depth))
    return replace(submap, cells=cells)
