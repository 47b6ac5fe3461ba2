"""The back end: keyframes in; corrected poses, a map and a localization service out. No ROS."""

import logging
import resource
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.mapping.closing import close_loops
from vggt3_ros.mapping.frame import FrameSource
from vggt3_ros.mapping.fusion_process import FusionProcess
from vggt3_ros.mapping.network_stage import network_stage
from vggt3_ros.mapping.structure import Structure
from vggt3_ros.mapping.snapshot import MEMORY_FILE, PLACES_FILE, Snapshot
from vggt3_ros.memory.distillation import distil
from vggt3_ros.memory.localizer import Localizer, Scene
from vggt3_ros.memory.pairs import collect_pairs
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.memory.second_opinion import reviewed


_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The caller's cancelled() said so; the last snapshot stands."""


class Backend:
    """Owns the device. refine() and distil() exclude each other; localize() may run beside them from any thread.

    store: KeyframeStore holding the keyframes and the snapshots. The newest readable snapshot is served at once.
    network: instead of the one that config.network names; Vggt3 or what has its map() and query(). Raises ValueError where the
    configured checkpoint cannot be loaded.
    """

    def __init__(self, store, config=BackendConfig(), network=None):
        self.store, self.config, self.device = store, config, _device(config.device)
        self.encoder = XFeatEncoder(config.features, self.device)
        self.matcher = Matcher(self.device)
        self.frames = FrameSource(store, self.encoder, config.resources.frame_cache_mb)
        self.localizer = Localizer(config.localizer, self.encoder, self.matcher)
        self.network = network_stage(config, self.device, store, self.frames, network)
        self.structure = Structure(self.frames, config, self.device)
        self._work = threading.Lock()
        self._scene = self._load_newest()

    @property
    def snapshot(self):
        """The last complete Snapshot, or None."""
        return self._scene.snapshot if self._scene else None

    def add(self, keyframe):
        """Store a keyframe; durable on return. A known id updates its pose."""
        return self.store.put(keyframe)

    def localize(self, image, camera, hint=None, verify=True):
        """(height, width, 3) uint8 RGB and its Camera -> Localization in the last snapshot's map; see Localizer.localize."""
        scene = self._scene
        answer = self.localizer.localize(scene, image, camera, hint, verify)
        if self.network is None or not verify:
            return answer
        return reviewed(answer, self.config.network.second_opinion, lambda: self.network.place(image, camera, scene.snapshot),
                        lambda T_map_cam: self.localizer.localize(scene, image, camera, T_map_cam))

    def refine(self, progress=None, cancelled=None):
        """All stored keyframes -> a new Snapshot, published and returned.

        progress(phase, fraction of the phase); cancelled() -> bool is asked between small steps. Raises Cancelled, and ValueError
        when there is nothing to refine.
        """
        with self._work, FusionProcess() as fuse:
            stages = _Stages(progress, cancelled)
            poses = self.store.poses()
            if not len(poses):
                raise ValueError("there are no keyframes to refine")
            ids = [int(i) for i in poses.ids]
            with stages("features") as step:
                for i, keyframe_id in enumerate(ids):
                    self.frames(keyframe_id)
                    step((i + 1) / len(ids))
            advice = None
            if self.network is not None:
                with stages("network") as step:
                    advice = self.network(poses, step)
            by_motion = not (advice and advice.report.get("used", True)) and self.config.depth.estimate and bool(self.structure.wanted(ids))
            frames = self.frames
            if by_motion:
                with stages("structure") as step:
                    frames = self.structure.sparse(poses, step)
            closing = close_loops(poses, frames, self._scene, self.matcher, self.localizer, self.config, stages, advice)
            if by_motion:
                with stages("bundle") as step:
                    solved = self.structure.bundled(poses, closing, step)
                    closing = replace(closing, T_map_cam=solved.T_map_cam)
                with stages("depth") as step:
                    self.structure.dense(poses, solved, step)
            with stages("fusion") as step:
                keyframes = (self.frames.estimated.completed(self.store.get(i)) for i in ids)
                cloud = fuse(keyframes, closing.T_map_cam, self.config.map, progress=step)
            with stages("memory") as step:
                memory = self._distil(ids, closing.T_map_cam, step)
                places = PlaceIndex.build([frame.features for frame in self._frames(ids, lambda: step(1.0))])
            report = dict(closing.report, keyframes=len(ids), points=len(cloud), peak_memory_mb=peak_memory_mb(),
                          memory_error_m=memory.validation_error_m if memory else float("nan"))
            snapshot = Snapshot(self._next_generation(), poses.ids, poses.stamps_ns, closing.T_map_cam,
                                poses.T_odom_cam, closing.covariances, tuple(closing.loops), cloud, stages.seconds, report)
            self._publish(snapshot, memory, places)
            return snapshot

    def distil(self, seconds, cancelled=None):
        """Spend idle `seconds` on the scene memory; the new Snapshot when it got better, else None. Raises Cancelled."""
        with self._work:
            scene = self._scene
            if scene is None or scene.memory is None:
                return None
            stages = _Stages(None, cancelled)
            with stages("memory") as step:
                ids = [int(i) for i in scene.snapshot.keyframe_ids]
                better = self._distil(ids, scene.snapshot.T_map_cam, step, scene.memory, seconds)
            if better is None or better.validation_error_m >= scene.memory.validation_error_m:
                return None
            report = dict(scene.snapshot.report, memory_error_m=better.validation_error_m)
            snapshot = replace(scene.snapshot, generation=self._next_generation(), report=report)
            self._publish(snapshot, better, scene.places)
            return snapshot

    def _distil(self, ids, T_map_cam, step, initial=None, seconds=None):
        config = self.config.memory
        initial = initial or (self._scene.memory if self._scene else None)
        pairs = collect_pairs(self._frames(ids, lambda: step(0.0)), T_map_cam, len(ids), config)
        if pairs is None:
            return None
        steps = config.warm_steps if initial is not None else config.steps
        keys, points, importance = pairs
        return distil(keys, points, config, importance, initial, steps, seconds, self.device, progress=step)

    def _frames(self, ids, step):
        """Each may have to be read from the store: step() in between may raise Cancelled."""
        for i in ids:
            step()
            yield self.frames(i)

    def _next_generation(self):
        """Beyond every number used so far; a damaged snapshot keeps its own."""
        used = [int(folder.name) for folder in self.store.snapshots.glob("[0-9]" * 6)]
        return max(used + [self.snapshot.generation if self.snapshot else 0]) + 1

    def _publish(self, snapshot, memory, places):
        folder = self.store.snapshots / f"{snapshot.generation:06d}"
        snapshot.save(folder, memory, places)
        self._scene = Scene(snapshot, memory, places, self.frames)
        for old in sorted(self.store.snapshots.glob("[0-9]" * 6))[:-self.config.resources.snapshots_kept]:
            Snapshot.remove(old)

    def _load_newest(self):
        for folder in sorted(self.store.snapshots.glob("[0-9]" * 6), reverse=True):
            try:
                snapshot = Snapshot.load(folder)
                memory = SceneMemory.load(folder / MEMORY_FILE, self.device) if (folder / MEMORY_FILE).exists() else None
                places = PlaceIndex.load(folder / PLACES_FILE) if (folder / PLACES_FILE).exists() else None
                return Scene(snapshot, memory, places, self.frames)
            except ValueError as error:
                _log.warning("%s; an older one is served", error)
        return None


class _Stages:
    """with stages("name") as step: ... times the stage; step(fraction) reports it and raises Cancelled when asked to stop."""

    def __init__(self, progress, cancelled):
        self.progress, self.cancelled = progress, cancelled or (lambda: False)
        self.seconds, self._started = {}, time.perf_counter()

    @contextmanager
    def __call__(self, name):
        started = time.perf_counter()

        def step(fraction):
            if self.cancelled():
                raise Cancelled(f"cancelled during {name}")
            if self.progress:
                self.progress(name, fraction)

        step(0.0)
        yield step
        now = time.perf_counter()
        self.seconds[name] = now - started
        self.seconds["total"] = now - self._started


def peak_memory_mb():
    """Peak resident memory of this process and of the largest that it started and ended, MB."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _device(name):
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device '{name}' is none that torch knows: auto, cpu, cuda, cuda:0, ...") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device '{name}' was asked for but torch finds no GPU: use auto or cpu, or install torch with CUDA")
    return device
