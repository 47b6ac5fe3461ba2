"""State shared by the node's parts: store, worker, refinery, intake, mode and current snapshot.
Needs no rclpy. Lives from configure to cleanup.
"""

import threading
from dataclasses import dataclass

import numpy as np

from vggt3_ros.ros.input.intake import Intake
from vggt3_ros.ros.output.gate import MapOdom, jump
from vggt3_ros.ros.process.refinery import Refinery
from vggt3_ros.ros.process.snapshot_shelf import SnapshotShelf
from vggt3_ros.ros.process.tracker import Tracker
from vggt3_ros.store.keyframes import LOADED, KeyframeStore
from vggt3_ros.worker.client import WorkerClient
from vggt3_ros.worker.suspects import Suspects


class Refused(ValueError):
    """The request does not fit the mode or the map. code: mode, no_map, conflict or
    other_odometry.
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, eq=False)
class Change:
    """The effect of a refinement: the previous Snapshot (None for the first), the T_map_odom (4,
    4) broadcast until then, and why the new one is withheld (empty if it is not).
    """

    previous: object
    T_map_odom: np.ndarray
    withheld: str


class Core:
    """Opens the store and starts the worker. Raises ValueError (StoreError) if the store cannot be
    used.

    on_snapshot(snapshot, change) is called for every new snapshot, always in the same thread.
    change is the Change of a refinement, None if a map was loaded; both are None if the map was
    discarded. on_pose(stamp_ns, T_map_cam, covariance): localization mode found the robot.
    on_change(): a state shown in the status changed. now_ns(): the node's clock.
    """

    def __init__(self, parameters, backend, on_snapshot, on_pose, on_change, logger, now_ns):
        self.parameters, self._on_snapshot, self._on_change, self._log = (
            parameters,
            on_snapshot,
            on_change,
            logger,
        )
        node = parameters.node
        self.store = _open(node)
        self._mode_lock = threading.Lock()
        self._shelf = SnapshotShelf(self.store, self._adopted, logger)
        self.map_odom = MapOdom()
        self.last_correction = ""  # by how much it moved the newest keyframe, as text
        # The map comes from another run of the front end, with another odometry frame. New keyframes
        # therefore belong to another session.
        self._other_run = node.mode == "localization" or self.store.get_note(LOADED) is not None
        self.localizing = self._other_run
        if self.snapshot is not None:
            self.map_odom.reset(None if self.localizing else self._placed_odometry())
        elif self.localizing:
            self._shelf.close()
            self.store.close()
            raise ValueError(
                f"mode localization needs a refined map, but {self.store.folder} holds none"
            )
        self.worker = WorkerClient(
            self.store.folder,
            parameters.backend,
            node.idle_distillation,
            self._shelf.announced,
            self._worker_changed,
            node.worker_timeout,
            backend,
            logger,
            Suspects(self.store, logger),
        )
        self.refinery = Refinery(self.worker, self._limits, self._unrefined(), on_change, logger)
        self.refinery.pause()
        self.tracker = Tracker(
            self.worker, self.map_odom, lambda: parameters.node.gate, on_pose, logger
        )
        self.intake = Intake(
            self.store, node.odom_frame, self._keyframe_added, logger, node.map_frame, now_ns
        )
        if self.localizing:
            self._localize_only()
        self.worker.start()

    def _limits(self):
        node = self.parameters.node
        return node.refine_every_keyframes, node.refine_every_seconds

    def _unrefined(self):
        refined = set() if self.snapshot is None else set(self.snapshot.keyframe_ids.tolist())
        return len(set(self.store.poses().ids.tolist()) - refined)

    def _keyframe_added(self):
        self.refinery.keyframe_added()
        self._on_change()

    def _worker_changed(self):
        self._on_change()
        self.refinery.tick()

    # snapshots
    # --------------------------------------------------------------------------------------------------------

    @property
    def snapshot(self):
        """The current Snapshot, or None."""
        return self._shelf.current

    def load_snapshot(self, generation):
        """Return the Snapshot of an announced refinement, once it is published. Raises ValueError
        if it cannot be read.
        """
        return self._shelf.get(generation)

    def _adopted(self, snapshot, previous):
        change = None
        for text in snapshot.report.get("empty", ()):
            self._log.warning(f"refinement {snapshot.generation}: {text}")
        if not self.localizing and snapshot.places_odometry:
            before, withheld = self._correct(snapshot)
            change = None if before is None else Change(previous, before, withheld)
        self._on_snapshot(snapshot, change)

    def _correct(self, snapshot):
        """Return (T_map_odom until now, why the new one is withheld)."""
        before = self.map_odom.correct(snapshot, self.parameters.node.gate)
        if self.map_odom.withheld:
            self._log.warning(
                f"withholding the map->odom correction of refinement {snapshot.generation}: {self.map_odom.withheld}"
            )
        if before is not None:
            metres, radians = jump(
                before, snapshot.T_map_odom, snapshot.T_odom_cam[snapshot.newest]
            )
            self.last_correction = (
                f"{metres:.3f} m, {radians:.4f} rad by refinement {snapshot.generation}"
            )
        return before, self.map_odom.withheld

    def _placed_odometry(self):
        """Return the current snapshot's T_map_odom; None if the running session is not in it."""
        return self.snapshot.T_map_odom if self.snapshot.places_odometry else None

    @property
    def T_map_frontend(self):
        """(4, 4) pose of the front end's current odometry frame, as TF needs it. None until
        localization mode finds the robot.
        """
        T_map_odom = self.map_odom.T_map_odom
        return None if T_map_odom is None else T_map_odom @ self.intake.T_kept_frontend

    def configure(self):
        """Apply a live parameter change."""
        changed = self.worker.configure(
            self.parameters.backend, self.parameters.node.idle_distillation
        )
        changed.add_done_callback(
            lambda done: (
                done.exception()
                and self._log.error(f"the worker rejected the configuration: {done.exception()}")
            )
        )
        if self.map_odom.withheld and not self.localizing and self.snapshot is not None:
            self._correct(self.snapshot)  # a wider gate may now accept it
            self._on_change()

    # mode
    # -------------------------------------------------------------------------------------------------------------

    def resume(self):
        """Refine when due, unless the mode is localization."""
        if not self.localizing:
            self.refinery.resume()

    def set_mode(self, localizing, timeout, new_session=False):
        """Switch between mapping and localization.

        Mapping on a map of another run begins a new session, which is tied to the map once it is
        located in it. new_session does the same after a restart of the front end, which may
        include its clock. Raises Refused if there is no map, or none that can be extended;
        WorkerError or TimeoutError if the worker does not respond.
        """
        with self._mode_lock:
            if new_session and localizing:
                raise Refused(
                    "mode",
                    "new_session needs mode MAPPING: localization stores no session",
                )
            if localizing == self.localizing and not new_session:
                return
            if new_session and self.snapshot is None:
                raise Refused(
                    "no_map",
                    "no refined map yet in which a new session could be located: refine first, or call reset",
                )
            if localizing:
                if self.snapshot is None:
                    raise Refused("no_map", "no refined map yet to localize in")
                self._localize_only()
            elif self._other_run and self.parameters.node.mode == "localization":
                raise Refused(
                    "other_odometry",
                    "this node was started in localization mode and never modifies its map: start a node in "
                    "mapping mode and call load_map",
                )
            elif self._other_run or new_session:
                self._begin_session(timeout)
            else:
                self._map()
        self._on_change()

    def _localize_only(self):
        self.localizing = True
        self.refinery.pause()
        if self._other_run:
            self.map_odom.reset(None)
            self.intake.forget()
        self.tracker.start()
        self.intake.divert(self.tracker.take)

    def _begin_session(self, timeout):
        # The pose found by localization mode stays valid until the next refinement; a pose relative
        # to the previous odometry does not.
        found = self.map_odom.T_map_odom if self._other_run else None
        self.refinery.pause()
        self.intake.close("a new session is starting: send it again")
        try:
            answer = self.worker.begin_session().result(timeout)
            self._shelf.announced(answer["generation"]).result(timeout)
            self.intake.forget()
        finally:
            self._take_keyframes()
            self.resume()
        self._map()
        self.map_odom.reset(found)

    def _take_keyframes(self):
        if self.localizing:
            self.intake.divert(self.tracker.take)
        else:
            self.intake.store()

    def _map(self):
        self.intake.store()
        self.tracker.stop()
        self.localizing = self._other_run = False
        self.map_odom.reset(np.eye(4) if self.snapshot is None else self._placed_odometry())
        self.refinery.resume(waiting=self._unrefined())

    # everything changes
    # -----------------------------------------------------------------------------------------------

    def reset(self, timeout):
        """Discard all keyframes and the map, and continue mapping. Returns the number of discarded
        keyframes.

        Raises WorkerError or TimeoutError if the worker does not respond, Refused if the node was
        started in localization mode.
        """
        if self.parameters.node.mode == "localization":
            raise Refused(
                "conflict",
                "this node was started in localization mode and never discards its map",
            )
        with self._mode_lock:
            self.refinery.pause()
            try:
                keyframes = self.worker.reset().result(timeout)["keyframes"]
                self._forget(timeout)
                self.intake.forget()
                self._map()
            finally:
                self.resume()
        self._on_snapshot(None, None)
        return keyframes

    def load(self, folder, merge, timeout):
        """Load a saved map, see worker/__init__.py. Replacing the current map switches to
        localization mode.

        Returns the worker's answer. Raises like :meth:`reset`, and Refused if the node must not
        modify its map.
        """
        if self.parameters.node.mode == "localization" or (
            merge and self.localizing and self.store.has_images
        ):
            raise Refused(
                "conflict",
                "this node is in localization mode, which does not modify the map: switch to mapping to merge",
            )
        with self._mode_lock:
            self.refinery.pause()
            if not merge:
                self.intake.close("a map is being loaded: send it again")
            try:
                served = self.snapshot.generation if self.snapshot is not None else 0
                answer = self.worker.load(folder, merge).result(timeout)
                if answer["code"] == "ok" and not merge:
                    self._forget(timeout)
                    self._other_run = True
                    self._localize_only()
                # Maps without images are merged immediately, others with the next refinement.
                if answer["code"] == "ok" and answer["generation"] != served:
                    self._shelf.announced(answer["generation"]).result(timeout)
            finally:
                self._take_keyframes()
                if not self.localizing:
                    self.refinery.resume(waiting=self._unrefined())
        self._on_change()
        return answer

    def _forget(self, timeout):
        self._shelf.forget(timeout)
        self.map_odom.reset()

    def stop(self):
        """End the worker; pending requests fail. The store stays open for keyframes that are still
        being written.
        """
        self.tracker.stop()
        self.refinery.pause()
        self.worker.close()
        self._shelf.close()

    def close(self):
        """Stop and close the store."""
        self.stop()
        self.store.close()


def _open(node):
    """Open the KeyframeStore of a NodeConfig. Raises ValueError if localization mode has no store."""
    folder = node.store_folder()
    if node.mode == "localization" and not (node.store and (folder / "keyframes.db").exists()):
        raise ValueError(
            f"mode localization needs the parameter store to name a saved map, got '{node.store}'"
        )
    return KeyframeStore(folder)
