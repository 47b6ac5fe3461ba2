"""The back end: keyframes in; corrected poses, a map and a localization service out. No ROS."""

import logging
import threading
from dataclasses import replace

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.memory.localizer import Localizer
from vggt3_ros.memory.scenes import Scenes
from vggt3_ros.memory.second_opinion import reviewed
from vggt3_ros.refinement.closing import close_loops
from vggt3_ros.refinement.emptiness import why_empty
from vggt3_ros.refinement.monocular.structure import Structure
from vggt3_ros.refinement.network_prior.network_stage import network_stage
from vggt3_ros.refinement.sessions import in_one_frame
from vggt3_ros.store.keyframes import DamagedKeyframe
from vggt3_ros.store.sessions import begin_session
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.suspicion import any_suspected
from vggt3_ros.surface.fusion_process import FusionError, FusionProcess
from vggt3_ros.system import threads
from vggt3_ros.system.device import device_name, running_on
from vggt3_ros.system.memory_use import peak_mb
from vggt3_ros.system.stages import Stages

_log = logging.getLogger(__name__)
LOOKED_AT = 32  # keyframes, for why a map is empty
ENCODED_AT_ONCE = {"cuda": 16}  # images; a CPU gains nothing by more than one


class Backend:
    """Owns the device. refine() and distil() exclude each other; localize() may run beside them from any thread.

    store: KeyframeStore holding the keyframes and the snapshots. The newest readable snapshot is served at once.
    network: instead of the one that config.network names; Vggt3 or what has its map() and query(). Raises ValueError where the
    configured checkpoint cannot be loaded, or the program of the configured adapter is missing.

    touched: may be set to a function that hears the id of every keyframe before it is worked on, so that one whose data ends the process
    is known.
    """

    def __init__(self, store, config=BackendConfig(), network=None):
        self.store, self.config, self.device = store, config, _device(config.device)
        self._device_name = device_name(self.device)
        self.encoder = XFeatEncoder(config.features, self.device)
        self.matcher = Matcher(self.device)
        self.frames = FrameSource(store, self.encoder, config.resources.frame_cache_mb)
        self.localizer = Localizer(config.localizer, self.encoder, self.matcher)
        self.network = network_stage(config, self.device, store, self.frames, network)
        self.structure = Structure(self.frames, config, self.device)
        self.keeper = MemoryKeeper(self.frames, config, self.device)
        self.fusion = FusionProcess()
        self._work = threading.Lock()
        self._scenes = Scenes(store, self.frames if store.has_images else None, self.keeper.load, config.resources.snapshots_kept)

    @property
    def touched(self):
        return self.frames.touched

    @touched.setter
    def touched(self, function):
        self.frames.touched = function

    @property
    def running_on(self):
        """For people: device, numbers, prior and the licence of its weights."""
        return running_on(self._device_name, self.network)

    @property
    def snapshot(self):
        """The last complete Snapshot, or None."""
        return self._scenes.snapshot

    def add(self, keyframe):
        """Store a keyframe; durable on return. A known id updates its pose."""
        return self.store.put(keyframe)

    def close(self):
        """End the process that fuses; a later refinement starts another. Without it that ends when the back end is forgotten."""
        with self._work:
            self.fusion.close()

    def localize(self, image, camera, hint=None, verify=True):
        """(height, width, 3) uint8 RGB and its Camera -> Localization in the last snapshot's map; see Localizer.localize."""
        scene = self._scenes.current
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
        with self._work:
            if not self.store.has_images:
                raise ValueError("this map was saved without images: it is served as it is, but cannot be refined; load one that was saved with "
                                 "them, or take another store for new keyframes")
            stages = Stages(progress, cancelled)
            self.fusion.start()
            with stages("features") as step:
                stored = self._readable(self.store.poses(), step)
            if not len(stored):
                raise ValueError("there are no keyframes to refine")
            poses, T_map_cam, waiting = self._in_one_frame(stored, stages)
            ids = [int(i) for i in poses.ids]
            with stages("features") as step:
                places = self._recognisable(ids, lambda: step(0.9))
                step(1.0)
            advice = None
            if self.network is not None:
                with stages("network") as step:
                    advice = self.network(poses if len(set(poses.sessions)) == 1 else replace(poses, T_odom_cam=T_map_cam), step)
            by_motion = not (advice and advice.report.get("used", True)) and self.structure.serves(ids)
            frames = self.frames
            if by_motion:
                with stages("structure") as step:
                    frames = self.structure.sparse(poses, step)
            closing = close_loops(poses, frames, self._scenes.current, places, self.matcher, self.localizer, self.config, stages, advice,
                                  T_map_cam, 1 if any_suspected(self.store) else threads.count())
            if by_motion:
                with stages("bundle") as step:
                    solved, closing = self.structure.bundled(poses, closing, frames, step)
                with stages("depth") as step:
                    self.structure.dense(poses, solved, step)
            with stages("fusion") as step:
                cloud = self._fused(ids, closing.T_map_cam, step)
            with stages("memory") as step:
                memory = self.keeper.kept(self._scenes.memory, ids, closing.T_map_cam, step)
            report = dict(closing.report, keyframes=len(ids), points=len(cloud), peak_memory_mb=peak_mb(),
                          memory_error_m=memory.validation_error_m if memory else float("nan"), slots=len(memory) if memory else 0,
                          sessions=len(set(poses.sessions.tolist())), sessions_waiting=waiting, empty=self._empty(ids, cloud, memory))
            snapshot = Snapshot(self._scenes.next_generation(), poses.ids, poses.stamps_ns, closing.T_map_cam,
                                poses.T_odom_cam, closing.covariances, tuple(closing.loops), cloud, stages.seconds, report, poses.sessions,
                                self.store.session)
            self._scenes.publish(snapshot, memory, places)
            return snapshot

    def _empty(self, ids, cloud, memory):
        """Why the map or the memory holds nothing: a list of sentences, which are logged."""
        config, said = self.config, []
        ids = ids[::-(-len(ids) // LOOKED_AT)]  # enough to tell, at the same cost in any map
        if not len(cloud):
            otherwise = "surfaces must be seen map.minimum_weight times, and estimated depth must be sure"
            said.append("the map is empty: " + why_empty(map(self.frames, ids), config.map.max_depth, "map.max_depth", otherwise,
                                                         config.depth.estimate))
        if memory is None:
            said.append("the scene memory is empty: " + why_empty(map(self.frames, ids), config.memory.max_depth, "memory.max_depth",
                                                                  "too little of it to remember", config.depth.estimate))
        for text in said:
            _log.warning("%s", text)
        return said

    def _in_one_frame(self, stored, stages):
        """See sessions.in_one_frame. Most maps are of one session, and take no time here."""
        if self.config.fixed_poses:
            return stored, stored.T_odom_cam, {}
        if len(np.unique(stored.sessions)) == 1:
            return in_one_frame(self.store, stored, self.snapshot, self.localize, lambda: None)
        with stages("sessions") as step:
            poses, T_map_cam, waiting = in_one_frame(self.store, stored, self.snapshot, self.localize, lambda: step(0.0))
        for session, reason in waiting.items():
            _log.warning("session %s of the front end waits, for it has no place in the map: %s", session, reason)
        return poses, T_map_cam, waiting

    def begin_session(self):
        """The front end started anew, with odometry and ids of its own: the session's number. The map stays; new keyframes join it once they
        are found in it."""
        with self._work:
            number = begin_session(self.store)
            self._scenes.follow_session()
            return number

    def _readable(self, poses, step):
        """Those of StoredPoses whose keyframes can be read, encoded; the others are set aside."""
        missing, damaged = self.frames.missing([int(i) for i in poses.ids]), set()
        at_once = 1 if any_suspected(self.store) else ENCODED_AT_ONCE.get(self.device.type, 1)
        with threads.pool(threads.count() if at_once > 1 else 1) as over:
            for first in range(0, len(missing), at_once):
                group = missing[first:first + at_once]
                try:
                    self.frames.encode(group, over)
                except DamagedKeyframe:
                    damaged |= self._damaged(group)
                step(0.9 * (first + len(group)) / len(missing))
        return poses.only([int(i) not in damaged for i in poses.ids]) if damaged else poses

    def _damaged(self, ids):
        """The set of those keyframes that cannot be read, set aside; the others are encoded."""
        damaged = set()
        for keyframe_id in ids:
            try:
                self.frames(keyframe_id)
            except DamagedKeyframe as error:
                damaged.add(keyframe_id)
                self.store.set_aside(keyframe_id, str(error))
                _log.error("set aside: %s", error)
        return damaged

    def _fused(self, ids, T_map_cam, step):
        def read(keyframe_id):
            self.touched(keyframe_id)
            return self.frames.estimated.completed(self.store.get(keyframe_id))

        try:
            return self.fusion(ids, T_map_cam, read, self.config.map, self.frames.renewed, progress=step)
        except FusionError as error:
            if error.keyframe is not None:
                self.touched(error.keyframe)
            raise

    def distil(self, seconds, cancelled=None):
        """Spend idle `seconds` on the scene memory; the new Snapshot when it got better, else None: also where no time is left, 0 or less.
        Raises Cancelled."""
        if not seconds > 0:
            return None
        with self._work:
            scene = self._scenes.current
            if scene is None or scene.memory is None or scene.frame is None:
                return None
            stages = Stages(None, cancelled)
            with stages("memory") as step:
                better = self.keeper.bettered(scene.memory, scene.snapshot, step, seconds)
            if better is None:
                return None
            report = dict(scene.snapshot.report, memory_error_m=better.validation_error_m)
            snapshot = replace(scene.snapshot, generation=self._scenes.next_generation(), report=report)
            self._scenes.publish(snapshot, better, scene.places)
            return snapshot

    def _recognisable(self, ids, step):
        """PlaceIndex of the keyframes. What the last one knows of old ones is kept, until it is outgrown."""
        old = self._scenes.places
        if old is None or old.outgrown(len(ids)):
            return PlaceIndex.build(_Each(ids, self.frames, step))
        row = {int(i): k for k, i in enumerate(self.snapshot.keyframe_ids)}
        return old.regrown([row.get(i, -1) for i in ids], lambda k: self.frames(ids[k]).features)


class _Each:
    """Features of keyframes, as often as they are gone through; each may have to be read from the store: step() in between may raise
    Cancelled."""

    def __init__(self, ids, frames, step):
        self._ids, self._frames, self._step = ids, frames, step

    def __iter__(self):
        for i in self._ids:
            self._step()
            yield self._frames(i).features


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
