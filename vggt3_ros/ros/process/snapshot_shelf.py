"""Holds the current Snapshot, read from the store's folder in a thread of its own when the worker
publishes it. Needs no ROS.
"""

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

from vggt3_ros.store.snapshot import Snapshot


class SnapshotShelf:
    """Loads the snapshots of a KeyframeStore. adopted(snapshot, previous) is called in the shelf's
    thread for each snapshot that becomes current. The newest readable stored one is current from
    the start; `current` is None if there is none.
    """

    def __init__(self, store, adopted, logger):
        self._store, self._folder, self._adopted, self._log = (
            store,
            store.snapshots,
            adopted,
            logger,
        )
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="snapshot_loader")
        stored = sorted(
            (int(path.name) for path in self._folder.glob("*") if path.name.isdigit()),
            reverse=True,
        )
        self.current = next(
            (snapshot for snapshot in map(self._read, stored) if snapshot is not None), None
        )

    def announced(self, generation):
        """The worker has published a snapshot. Returns a Future that completes when it is current."""
        announced = self._loader.submit(self._adopt, generation)
        announced.add_done_callback(self._report)
        return announced

    def _report(self, done):
        """Log an exception raised by `adopted`, which would otherwise be lost."""
        error = done.exception()
        if error is not None:
            self._log.error(
                f"cannot adopt a new snapshot: {''.join(traceback.format_exception(error))}"
            )

    def wait(self, timeout=None):
        """Wait until all announced snapshots are current."""
        self._loader.submit(lambda: None).result(timeout)

    def get(self, generation):
        """Return an announced Snapshot after it became current. Raises ValueError if it cannot be
        read.
        """
        self.wait()
        with self._lock:
            if self.current is not None and self.current.generation == generation:
                return self.current
        return Snapshot.of(self._store, self._path(generation))

    def forget(self, timeout):
        self.wait(timeout)  # a pending one must not arrive after this
        with self._lock:
            self.current = None

    def close(self):
        self._loader.shutdown()

    def _path(self, generation):
        return self._folder / f"{generation:06d}"

    def _read(self, generation):
        try:
            return Snapshot.of(self._store, self._path(generation))
        except ValueError as error:
            self._log.error(f"ignoring snapshot {generation}: {error}")

    def _adopt(self, generation):
        snapshot = self._read(generation)
        if snapshot is None:
            return
        with self._lock:
            previous, self.current = self.current, snapshot
        self._adopted(snapshot, previous)
