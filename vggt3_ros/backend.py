"""The back end: keyframes in; corrected poses, a map and a localization service out. No ROS."""

import logging
import threading
from dataclasses import replace

import numpy as np

from vggt3_ros.config import BackendConfig, MapConfig
from vggt3_ros.features.encoding import encode_all
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.memory.localizer import Localizer
from vggt3_ros.memory.scenes import Scenes
from vggt3_ros.memory.second_opinion import reviewed
from vggt3_ros.refinement.closing import close_loops
from vggt3_ros.refinement.emptiness import why_all_empty
from vggt3_ros.refinement.joining import join
from vggt3_ros.refinement.monocular.structure import Structure
from vggt3_ros.refinement.network_prior.network_stage import network_stage
from vggt3_ros.refinement.places import place_index
from vggt3_ros.refinement.scene_scale import REPORT as SCENE_SCALE
from vggt3_ros.refinement.scene_scale import SceneScale, described, in_scale, scene_scale
from vggt3_ros.refinement.sessions import in_one_frame
from vggt3_ros.store.sessions import begin_session, placed_sessions
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.suspicion import any_suspected
from vggt3_ros.surface.fusion_process import FusionError, FusionProcess
from vggt3_ros.system import threads
from vggt3_ros.system.device import device_name, device_named, running_on
from vggt3_ros.system.memory_use import peak_mb
from vggt3_ros.system.stages import Stages
from vggt3_ros.system.version import VERSION

_log = logging.getLogger(__name__)


class Backend:
    """Owns the device. refine() and distil() exclude each other; localize() may run beside them
    from any thread.

    store: KeyframeStore holding the keyframes and the snapshots. The newest readable snapshot is
    served at once. network: instead of the one that config.network names; Vggt3 or what has its
    map() and query(). Raises ValueError where the configured checkpoint cannot be loaded, or the
    program of the configured adapter is missing.

    touched: may be set to a function that hears the id of every keyframe before it is worked on,
    so that one whose data ends the process is known.
    """

    def __init__(self, store, config=BackendConfig(), network=None):
        self.store, self.config, self.device = store, config, device_named(config.device)
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
        self._scenes = Scenes(
            store,
            self.frames if store.has_images else None,
            self.keeper.load,
            config.resources.snapshots_kept,
        )
        self._use(SceneScale(self._last_scale or 1.0, float("nan")))

    @property
    def touched(self):
        return self.frames.touched

    @touched.setter
    def touched(self, function):
        self.frames.touched = function

    @property
    def running_on(self):
        """For people: device, numbers, prior and the licence of its weights."""
        prior = None if self.network is None else self.network.scene.viewer.prior()
        return running_on(self._device_name, prior)

    @property
    def snapshot(self):
        """The last complete Snapshot, or None."""
        return self._scenes.snapshot

    def add(self, keyframe):
        """Store a keyframe; durable on return. A known id updates its pose."""
        return self.store.put(keyframe)

    def close(self):
        """End the process that fuses; a later refinement starts another. Without it that ends when
        the back end is forgotten.
        """
        with self._work:
            self.fusion.close()

    def localize(self, image, camera, hint=None, verify=True):
        """(height, width, 3) uint8 RGB and its Camera -> Localization in the last snapshot's map;
        see Localizer.localize.
        """
        scene = self._scenes.current
        answer = self.localizer.localize(scene, image, camera, hint, verify)
        if self.network is None or not verify:
            return answer
        return reviewed(
            answer,
            self.config.network.second_opinion,
            lambda: self.network.place(image, camera, scene.snapshot),
            lambda T_map_cam: self.localizer.localize(scene, image, camera, T_map_cam),
        )

    def refine(self, progress=None, cancelled=None):
        """All stored keyframes -> a new Snapshot, published and returned.

        progress(phase, fraction of the phase); cancelled() -> bool is asked between small steps.
        Raises Cancelled, and ValueError when there is nothing to refine.
        """
        with self._work:
            if not self.store.has_images:
                raise ValueError(
                    "this map was saved without images: it is served as it is, but cannot be refined; load one that was saved with "
                    "them, or take another store for new keyframes"
                )
            stages = Stages(progress, cancelled)
            self.fusion.start()
            stored = self._encoded(stages)
            poses, T_map_cam, waiting = self._in_one_frame(stored, stages)
            self._measure(poses)
            places = self._recognisable(poses, stages)
            advice = self._advice(poses, T_map_cam, stages)
            closing = self._closed(poses, T_map_cam, places, advice, stages)
            self._measure(poses)  # again: depth from motion is known by now
            cloud = self._fused(poses, closing.T_map_cam, stages)
            memory = self._remembered(poses, closing.T_map_cam, stages)
            report = closing.report | self._report(poses, waiting, cloud, memory)
            report["memory_mb"], report["made_by"] = stages.memory_mb, self._made_by()
            snapshot = Snapshot(
                self._scenes.next_generation(),
                poses.ids,
                poses.stamps_ns,
                closing.T_map_cam,
                poses.T_odom_cam,
                closing.covariances,
                tuple(closing.loops),
                cloud,
                stages.seconds,
                report,
                poses.sessions,
                self.store.session,
            )
            self._scenes.publish(snapshot, memory, places)
            return snapshot

    # stages of a refinement
    # -------------------------------------------------------------------------------------------

    def _encoded(self, stages):
        """StoredPoses of the keyframes that can be read, the features of which are known now; the
        others are set aside.
        """
        with stages("features") as step:
            poses = self.store.poses()
            damaged = encode_all(
                self.frames, poses.ids.tolist(), self.device.type, lambda done: step(0.9 * done)
            )
        if len(damaged) == len(poses):
            raise ValueError("there are no keyframes to refine")
        return poses.only([i not in damaged for i in poses.ids.tolist()]) if damaged else poses

    def _in_one_frame(self, stored, stages):
        """See sessions.in_one_frame. Most maps are of one session, and take no time here."""
        if self.config.fixed_poses:
            return stored, stored.T_odom_cam, {}
        if len(np.unique(stored.sessions)) == 1:
            return self._placed(stored, lambda: None)
        with stages("sessions") as step:
            poses, T_map_cam, waiting = self._placed(stored, lambda: step(0.0))
        for session, reason in waiting.items():
            _log.warning(
                "session %s of the front end waits, for it has no place in the map: %s",
                session,
                reason,
            )
        return poses, T_map_cam, waiting

    def _placed(self, stored, step):
        def localized(keyframe_id):
            keyframe = self.store.get(keyframe_id)
            return self.localize(keyframe.image, keyframe.camera)

        return in_one_frame(stored, self.snapshot, placed_sessions(self.store), localized, step)

    @property
    def _last_scale(self):
        """Of the last snapshot; None without one."""
        return self.snapshot.report.get(SCENE_SCALE) if self.snapshot else None

    def _measure(self, poses):
        """Take the lengths that the depth of the keyframes asks for."""
        last = self._scale.scale if self._last_scale else None
        found = scene_scale(self.frames, poses.ids.tolist(), MapConfig().max_depth, last)
        if found.scale != self._scale.scale and not self.config.scene_scale:
            _log.info("%s", described(found, in_scale(self.config, found.scale)))
        self._use(found)

    def _use(self, found):
        self._scale = replace(found, scale=self.config.scene_scale or found.scale)
        self._fitted = in_scale(self.config, self._scale.scale)
        self.localizer.configure(self._fitted.localizer)
        self.keeper.configure(self._fitted.memory, self._scale.scale)

    def _recognisable(self, poses, stages):
        """PlaceIndex of the keyframes."""
        with stages("features") as step:
            old, old_ids = self._scenes.places, self.snapshot.keyframe_ids if self.snapshot else ()
            places = place_index(poses.ids.tolist(), self.frames, old, old_ids, lambda: step(0.9))
            step(1.0)
        return places

    def _advice(self, poses, T_map_cam, stages):
        """Advice of the network, None without one."""
        if self.network is None:
            return None
        with stages("network") as step:
            return self.network(
                poses if len(set(poses.sessions)) == 1 else replace(poses, T_odom_cam=T_map_cam),
                step,
            )

    def _closed(self, poses, T_map_cam, places, advice, stages):
        """Closing: loops proposed, verified and solved with; on depth from motion where neither a
        sensor nor the network gave any.
        """
        in_parallel = 1 if any_suspected(self.store) else threads.count()

        def close(frames):
            return close_loops(
                poses,
                frames,
                self._scenes.current,
                places,
                self.matcher,
                self.localizer,
                self._fitted,
                stages,
                advice,
                T_map_cam,
                in_parallel,
            )

        by_motion = not (advice and advice.used) and self.structure.serves(poses.ids.tolist())
        return self.structure.closed(poses, close, stages) if by_motion else close(self.frames)

    def _fused(self, poses, T_map_cam, stages):
        """PointMap of all depth at the corrected poses."""

        def read(keyframe_id):
            self.touched(keyframe_id)
            return self.frames.estimated.completed(self.store.get(keyframe_id))

        with stages("fusion") as step:
            try:
                return self.fusion(
                    poses.ids.tolist(),
                    T_map_cam,
                    read,
                    self._fitted.map,
                    self.frames.renewed,
                    progress=step,
                )
            except FusionError as error:
                if error.keyframe is not None:
                    self.touched(error.keyframe)
                raise

    def _remembered(self, poses, T_map_cam, stages):
        """SceneMemory, None where there is nothing to remember."""
        with stages("memory") as step:
            # What lay out of reach of the lengths so far was not remembered.
            fits = (self._last_scale or 1.0) == self._scale.scale
            memory = self._scenes.memory if fits else None
            return self.keeper.update(memory, poses.ids.tolist(), T_map_cam, step)

    def _report(self, poses, waiting, cloud, memory):
        """Numbers for people, beside those of the loops."""
        ids = poses.ids.tolist()
        return {
            "keyframes": len(ids),
            "points": len(cloud),
            "peak_memory_mb": peak_mb(),
            "memory_error_m": memory.validation_error_m if memory else float("nan"),
            "slots": len(memory) if memory else 0,
            "sessions": len(set(poses.sessions.tolist())),
            "sessions_waiting": waiting,
            "empty": why_all_empty(self.frames, ids, cloud, memory, self._fitted),
            SCENE_SCALE: self._scale.scale,
            "scene_depth_m": self._scale.depth_m,
        }

    def _made_by(self):
        """What made a snapshot: version, device, and the settings that are not the defaults."""
        return {
            "version": VERSION,
            "device": self.running_on,
            "settings": self.config.changed(),
        }

    # ------------------------------------------------------------------------------------------------------------------

    def begin_session(self):
        """The front end started anew, with odometry and ids of its own: the session's number. The
        map stays; new keyframes join it once they are found in it.
        """
        with self._work:
            number = begin_session(self.store)
            self._scenes.follow_session()
            return number

    def join(self, folder):
        """Add a saved map to a store without images, see joining.join; a Backend made anew serves
        both.
        """
        with self._work:
            scene = self._scenes.current
            return join(
                self.store,
                folder,
                scene,
                lambda view: self.localizer.coarse(scene, view),
                self.config.memory,
            )

    def distil(self, seconds, cancelled=None):
        """Spend idle `seconds` on the scene memory; the new Snapshot when it got better, else
        None: also where no time is left, 0 or less. Raises Cancelled.
        """
        if not seconds > 0:
            return None
        with self._work:
            scene = self._scenes.current
            if scene is None or scene.memory is None or scene.frame is None:
                return None
            stages = Stages(None, cancelled)
            with stages("memory") as step:
                better = self.keeper.improve(scene.memory, scene.snapshot, step, seconds)
            if better is None:
                return None
            report = dict(scene.snapshot.report, memory_error_m=better.validation_error_m)
            snapshot = replace(
                scene.snapshot, generation=self._scenes.next_generation(), report=report
            )
            self._scenes.publish(snapshot, better, scene.places)
            return snapshot
