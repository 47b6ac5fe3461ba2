"""What the node's parts share: store, worker, refinery, intake and the snapshot in force. Needs no rclpy.

Lives from configure to cleanup.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from vggt3_ros.mapping.snapshot import Snapshot
from vggt3_ros.mapping.store import KeyframeStore
from vggt3_ros.ros.intake import Intake
from vggt3_ros.ros.refinery import Refinery
from vggt3_ros.worker_client import WorkerClient

RECENT_SNAPSHOTS = 3  # kept for those who asked for a certain one


class Core:
    """Opens the store and starts the worker. Raises StoreError when the store cannot be used.

    on_snapshot(snapshot, previous) is called, in one thread of its own, for every snapshot from the newest stored one on;
    on_change() when a state changed that the status shows.
    """

    def __init__(self, parameters, backend, on_snapshot, on_change, logger):
        self.parameters, self._on_snapshot, self._on_change, self._log = parameters, on_snapshot, on_change, logger
        node = parameters.node
        self.store = KeyframeStore(node.store_folder())
        self.snapshot = None
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="snapshot_loader")
        stored = self._newest_generation()
        if stored:
            self._adopt(stored)
        self.worker = WorkerClient(self.store.folder, parameters.backend, node.idle_distillation, self._announced, self._worker_changed,
                                   node.worker_timeout, backend, logger)
        self.refinery = Refinery(self.worker, self._limits, self._unrefined(), on_change, logger)
        self.refinery.pause()
        self.intake = Intake(self.store, node.odom_frame, self.refinery.keyframe_added, logger)
        self.worker.start()

    def _limits(self):
        node = self.parameters.node
        return node.refine_every_keyframes, node.refine_every_seconds

    def _unrefined(self):
        refined = set() if self.snapshot is None else set(self.snapshot.keyframe_ids.tolist())
        return len(set(self.store.ids()) - refined)

    def _worker_changed(self):
        self._on_change()
        self.refinery.tick()

    def _newest_generation(self):
        return max((int(folder.name) for folder in self.store.snapshots.glob("*") if folder.name.isdigit()), default=0)

    def _announced(self, generation):
        self._loader.submit(self._adopt, generation)

    def load_snapshot(self, generation):
        """The Snapshot of a refinement that was announced, once it is published. ValueError when it cannot be read."""
        self._loader.submit(lambda: None).result()
        with self._lock:
            if self.snapshot is not None and self.snapshot.generation == generation:
                return self.snapshot
        return Snapshot.load(self.store.snapshots / f"{generation:06d}")

    def _adopt(self, generation):
        try:
            snapshot = Snapshot.load(self.store.snapshots / f"{generation:06d}")
        except ValueError as error:
            self._log.error(f"snapshot {generation} is not used: {error}")
            return
        with self._lock:
            previous, self.snapshot = self.snapshot, snapshot
        self._on_snapshot(snapshot, previous)

    def configure(self):
        """After a live parameter change."""
        changed = self.worker.configure(self.parameters.backend, self.parameters.node.idle_distillation)
        changed.add_done_callback(lambda done: done.exception() and self._log.error(f"configuration not used: {done.exception()}"))

    def reset(self, timeout):
        """Forget everything; the number of keyframes forgotten. WorkerError or TimeoutError when the worker does not follow."""
        self.refinery.pause()
        try:
            keyframes = self.worker.reset().result(timeout)["keyframes"]
            self._loader.submit(lambda: None).result(timeout)  # a snapshot on its way must not come after this
            with self._lock:
                self.snapshot = None
            self.intake.forget()
        finally:
            self.refinery.resume(waiting=self._unrefined())
        self._on_snapshot(None, None)
        return keyframes

    def stop(self):
        """End the worker; requests that wait for it fail. The store stays open for what is still on its way there."""
        self.refinery.pause()
        self.worker.close()
        self._loader.shutdown()

    def close(self):
        self.stop()
        self.store.close()
