"""The memories of a map through its refinements: made, kept, distilled again where needed, bettered in idle time."""

import shutil

import numpy as np

from vggt3_ros.memory.memory_cache import MemoryCache
from vggt3_ros.memory.submaps import Submaps
from vggt3_ros.memory.upkeep import distilled, grown, shared_steps

SCRATCH = "distilled"  # folder in the store's for what no snapshot has yet


class MemoryKeeper:
    """folder: of the store; frames: FrameSource; config: BackendConfig. Not for several threads at once."""

    def __init__(self, folder, frames, config, device):
        self._scratch, self._frames, self._config, self._device = folder / SCRATCH, frames, config.memory, device
        self._cache = MemoryCache(config.resources.memory_cache_mb, device)
        self._settled = set()  # (number, steps) of submaps that idle time could not better

    def load(self, folder, snapshot):
        """The Submaps saved in a snapshot's folder, or None; ValueError when they are damaged."""
        return Submaps.load(folder, snapshot, self._cache)

    def kept(self, memory, ids, T_map_cam, step):
        """The last snapshot's Submaps (or None) -> those of the keyframes as they stand now, or None where nothing can be remembered.
        They lie in a scratch folder until the next call."""
        self._clear()
        submaps, stale = grown(memory or (), ids, T_map_cam, self._frames, self._config, lambda: step(0.0),
                               self._frames.renewed)
        shares = shared_steps(stale, self._config)
        pose_of, done, total = dict(zip(ids, T_map_cam)), 0, max(1, sum(shares))
        by_number = {submap.number: submap for submap in submaps}
        for item, steps in zip(stale, shares):
            if steps:
                progress = lambda part: step(min(1.0, (done + part * steps) / total))
                new = self._distilled(item.submap, pose_of, progress, steps=steps)
                by_number[item.submap.number] = new or item.submap
            done += steps
        step(1.0)
        self._frames.renewed.clear()
        kept = Submaps(by_number.values(), self._cache)
        return kept if kept.ready else None

    def bettered(self, memory, snapshot, step, seconds):
        """Idle `seconds` spent on the submap that is least sure -> Submaps, or None when it did not help."""
        self._clear()
        waiting = [submap for submap in memory.ready if (submap.number, submap.steps) not in self._settled]
        if not waiting:
            return None
        worst = max(waiting, key=lambda submap: (submap.distilled < len(submap), submap.validation_error_m))
        pose_of = dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam))
        better = self._distilled(worst, pose_of, step, seconds=seconds)
        if better is None or (worst.distilled == len(worst) and better.validation_error_m >= worst.validation_error_m):
            self._settled.add((worst.number, worst.steps))
            memory.hold_these()
            return None
        return Submaps([better if submap is worst else submap for submap in memory], self._cache)

    def _distilled(self, submap, pose_of, progress, **budget):
        def frames():
            for i in map(int, submap.keyframe_ids):
                progress(0.0)  # each may have to be read from the store: it may raise Cancelled in between
                yield self._frames(i)

        T_map_cam = np.array([pose_of[int(i)] for i in submap.keyframe_ids])
        path = self._scratch / f"{submap.number:06d}.safetensors"
        return distilled(submap, T_map_cam, frames(), self._config, self._cache, path, self._device, progress, **budget)

    def _clear(self):
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
