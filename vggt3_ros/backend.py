"""The back end without ROS: keyframes in; corrected poses, a map and a localization service out."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vggt3_ros.config import BackendConfig, MapConfig
from vggt3_ros.features.encoding import encode_all
from vggt3_ros.features.frame import Frame, FrameSource
from vggt3_ros.features.matching import Matcher
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.memory.localizer import Localization, Localizer
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.memory.scenes import Scenes
from vggt3_ros.memory.second_opinion import reviewed
from vggt3_ros.network.vggt3 import Vggt3
from vggt3_ros.refinement.closing import Closing, close_loops
from vggt3_ros.refinement.emptiness import why_all_empty
from vggt3_ros.refinement.joining import join
from vggt3_ros.refinement.merging import Loaded
from vggt3_ros.refinement.monocular.structure import Structure
from vggt3_ros.refinement.network_prior.network_stage import Advice, network_stage
from vggt3_ros.refinement.places import place_index
from vggt3_ros.refinement.scene_scale import REPORT as SCENE_SCALE
from vggt3_ros.refinement.scene_scale import SceneScale, described, in_scale, scene_scale
from vggt3_ros.refinement.sessions import in_one_frame
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import begin_session, placed_sessions
from vggt3_ros.store.snapshot import PointMap, Snapshot
from vggt3_ros.store.stored_poses import StoredPoses
from vggt3_ros.store.suspicion import any_suspected
from vggt3_ros.surface.fusion_process import FusionError, FusionProcess
from vggt3_ros.system import threads
from vggt3_ros.system.device import device_name, device_named, running_on
from vggt3_ros.system.memory_use import peak_mb
from vggt3_ros.system.stages import Stages
from vggt3_ros.system.version import VERSION

_log = logging.getLogger(__name__)

Progress = Callable[[str, float], object]  # (stage, fraction of it)


class Backend:
    """Refine keyframes into a map and localize images in it. It owns the device.

    store: KeyframeStore with the keyframes and the snapshots; the newest readable snapshot is
    served at once. network: a Vggt3, or an object with its map() and query(), instead of the one
    that config.network names. Raises ValueError when the configured checkpoint cannot be loaded or
    the program of the configured adapter is missing.

    refine() and distil() exclude each other; localize() may run beside them in any thread.
    `touched` may be set to a function that is called with the id of every keyframe before it is
    worked on, so that a keyframe whose data crashes the process can be identified.
    """

    def __init__(
        self,
        store: KeyframeStore,
        config: BackendConfig | None = None,
        network: Vggt3 | None = None,
    ) -> None:
        config = BackendConfig() if config is None else config
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
    def touched(self) -> Callable[[int], object]:
        return self.frames.touched

    @touched.setter
    def touched(self, function: Callable[[int], object]) -> None:
        self.frames.touched = function

    @property
    def running_on(self) -> str:
        """Device, number format, prior and the licence of its weights, as one line of text."""
        prior = None if self.network is None else self.network.scene.viewer.prior()
        return running_on(self._device_name, prior)

    @property
    def snapshot(self) -> Snapshot | None:
        """The last complete Snapshot, or None."""
        return self._scenes.snapshot

    def add(self, keyframe: Keyframe) -> str:
        """Store a keyframe, durably: "added", or "updated" when its id is known; then its pose is
        replaced.
        """
        return self.store.put(keyframe)

    def close(self) -> None:
        """End the fusion process. A later refinement starts another. Without this call the process
        ends when the back end is garbage-collected.
        """
        with self._work:
            self.fusion.close()

    def localize(
        self,
        image: np.ndarray,
        camera: Camera,
        hint: np.ndarray | None = None,
        verify: bool = True,
    ) -> Localization:
        """Localize an image (height, width, 3) uint8 RGB in the last snapshot's map; see
        Localizer.localize.
        """
        scene = self._scenes.current
        answer = self.localizer.localize(scene, image, camera, hint, verify)
        network = self.network
        if network is None or not verify or scene is None:
            return answer
        return reviewed(
            answer,
            self.config.network.second_opinion,
            lambda: network.place(image, camera, scene.snapshot),
            lambda T_map_cam: self.localizer.localize(scene, image, camera, T_map_cam),
        )

    def refine(
        self, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Snapshot:
        """Refine all stored keyframes; publish and return a new Snapshot.

        progress(stage, fraction of the stage) is called, and cancelled() is asked, between small
        steps. Raises Cancelled, and ValueError when there is nothing to refine.
        """
        with self._work:
            if not self.store.has_images:
                raise ValueError(
                    "this map was saved without images: it can be served, but not refined; load one that was saved with "
                    "images, or use another store for new keyframes"
                )
            stages = Stages(progress, cancelled)
            self.fusion.start()
            stored = self._encoded(stages)
            poses, T_map_cam, waiting = self._in_one_frame(stored, stages)
            self._measure(poses)
            places = self._recognisable(poses, stages)
            advice = self._advice(poses, T_map_cam, stages)
            closing = self._closed(poses, T_map_cam, places, advice, stages)
            if self.frames.renewed:  # depth from motion is known by now
                self._measure(poses)
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

    # Stages of a refinement
    # -----------------------------------------------------------------------------------------

    def _encoded(self, stages: Stages) -> StoredPoses:
        """Encode the keyframes and set aside those that cannot be read; return the StoredPoses of
        the others.
        """
        with stages("features") as step:
            poses = self.store.poses()
            damaged = encode_all(
                self.frames, poses.ids.tolist(), self.device.type, lambda done: step(0.9 * done)
            )
        if len(damaged) == len(poses):
            raise ValueError("there are no keyframes to refine")
        if not damaged:
            return poses
        return poses.only(np.array([i not in damaged for i in poses.ids.tolist()]))

    def _in_one_frame(
        self, stored: StoredPoses, stages: Stages
    ) -> tuple[StoredPoses, np.ndarray, dict[str, str]]:
        """See sessions.in_one_frame. Most maps have one session and take no time here."""
        if self.config.fixed_poses:
            return stored, stored.T_odom_cam, {}
        if len(np.unique(stored.sessions)) == 1:
            return self._placed(stored, lambda: None)
        with stages("sessions") as step:
            poses, T_map_cam, waiting = self._placed(stored, lambda: step(0.0))
        for session, reason in waiting.items():
            _log.warning(
                "session %s of the front end has no place in the map yet: %s",
                session,
                reason,
            )
        return poses, T_map_cam, waiting

    def _placed(
        self, stored: StoredPoses, step: Callable[[], object]
    ) -> tuple[StoredPoses, np.ndarray, dict[str, str]]:
        def localized(keyframe_id: int) -> Localization:
            keyframe = self.store.get(keyframe_id)
            return self.localize(keyframe.image, keyframe.camera)

        return in_one_frame(stored, self.snapshot, placed_sessions(self.store), localized, step)

    @property
    def _last_scale(self) -> float | None:
        """The scale of the last snapshot; None without one."""
        return self.snapshot.report.get(SCENE_SCALE) if self.snapshot else None

    def _measure(self, poses: StoredPoses) -> None:
        """Use the lengths that suit the depth of the keyframes."""
        last = self._scale.scale if self._last_scale else None
        found = scene_scale(self.frames, poses.ids.tolist(), MapConfig().max_depth, last)
        if found.scale != self._scale.scale and not self.config.scene_scale:
            _log.info("%s", described(found, in_scale(self.config, found.scale)))
        self._use(found)

    def _use(self, found: SceneScale) -> None:
        self._scale = replace(found, scale=self.config.scene_scale or found.scale)
        self._fitted = in_scale(self.config, self._scale.scale)
        self.localizer.configure(self._fitted.localizer)
        self.keeper.configure(self._fitted.memory, self._scale.scale)

    def _recognisable(self, poses: StoredPoses, stages: Stages) -> PlaceIndex | None:
        """Return the PlaceIndex of the keyframes."""
        with stages("features") as step:
            old, old_ids = self._scenes.places, self.snapshot.keyframe_ids if self.snapshot else ()
            places = place_index(poses.ids.tolist(), self.frames, old, old_ids, lambda: step(0.9))
            step(1.0)
        return places

    def _advice(self, poses: StoredPoses, T_map_cam: np.ndarray, stages: Stages) -> Advice | None:
        """Return the network's Advice, None without a network."""
        if self.network is None:
            return None
        with stages("network") as step:
            return self.network(
                poses if len(set(poses.sessions)) == 1 else replace(poses, T_odom_cam=T_map_cam),
                step,
            )

    def _closed(
        self,
        poses: StoredPoses,
        T_map_cam: np.ndarray,
        places: PlaceIndex | None,
        advice: Advice | None,
        stages: Stages,
    ) -> Closing:
        """Propose, verify and close loops. Depth comes from motion when neither a sensor nor the
        network gave any.
        """
        in_parallel = 1 if any_suspected(self.store) else threads.count()

        def close(frames: Callable[[int], Frame]) -> Closing:
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

    def _fused(self, poses: StoredPoses, T_map_cam: np.ndarray, stages: Stages) -> PointMap:
        """Fuse all depth at the corrected poses."""

        def read(keyframe_id: int) -> Keyframe:
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

    def _remembered(
        self, poses: StoredPoses, T_map_cam: np.ndarray, stages: Stages
    ) -> SceneMemory | None:
        """Return the SceneMemory, None when there is nothing to remember."""
        with stages("memory") as step:
            # A memory made with other lengths lacks what was out of their reach.
            fits = (self._last_scale or 1.0) == self._scale.scale
            memory = self._scenes.memory if fits else None
            return self.keeper.update(memory, poses.ids.tolist(), T_map_cam, step)

    def _report(
        self,
        poses: StoredPoses,
        waiting: dict[str, str],
        cloud: PointMap,
        memory: SceneMemory | None,
    ) -> dict[str, Any]:
        """Return the figures of the report, except those of the loops."""
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

    def _made_by(self) -> dict[str, Any]:
        """What made a snapshot: version, device, and the settings that are not the defaults."""
        return {
            "version": VERSION,
            "device": self.running_on,
            "settings": self.config.changed(),
        }

    # -----------------------------------------------------------------------------------------

    def begin_session(self) -> int:
        """Begin a session: the front end was restarted, with new odometry and ids. Return its
        number. The map is kept; new keyframes join it once they are localized in it.
        """
        with self._work:
            number = begin_session(self.store)
            self._scenes.follow_session()
            return number

    def join(self, folder: Path | str) -> Loaded:
        """Add a saved map to a store without images, see joining.join. A new Backend serves
        both.
        """
        with self._work:
            scene = self._scenes.current
            return join(
                self.store,
                folder,
                scene,
                self.localizer.coarse,
                self.config.memory,
            )

    def distil(
        self, seconds: float, cancelled: Callable[[], bool] | None = None
    ) -> Snapshot | None:
        """Train the scene memory for `seconds` of idle time. Return a new Snapshot when it
        improved, else None, also when no time is left (0 or less). Raises Cancelled.
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
