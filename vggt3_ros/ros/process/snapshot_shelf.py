"""The Snapshot in force, read from the store's folder in a thread of its own as the worker
publishes them. Needs no ROS.
"""

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

from vggt3_ros.store.snapshot import Snapshot


class SnapshotShelf:
    """store: KeyframeStore that the snapshots are of. adopted(snapshot, previous) is called in the
    shelf's thread for each that comes into force. The newest stored one that can be read is in
    force at once; `current` is None while there is none.
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
        """The worker has published it: a Future that ends when it is in force."""
        announced = self._loader.submit(self._adopt, generation)
        announced.add_done_callback(self._report)
        return announced

    def _report(self, done):
        """What `adopted` raised would else be seen by nobody who does not ask."""
        error = done.exception()
        if error is not None:
            self._log.error(
                f"a new snapshot was not taken up: {''.join(traceback.format_exception(error))}"
            )

    def wait(self, timeout=None):
        """Until all that were announced are in force."""
        self._loader.submit(lambda: None).result(timeout)

    def get(self, generation):
        """An announced Snapshot, once it is in force or was. ValueError when it cannot be read."""
        self.wait()
        with self._lock:
            if self.current is not None and self.current.generation == generation:
                return self.current
        return Snapshot.of(self._store, self._path(generation))

    def forget(self, timeout):
        self.wait(timeout)  # one on its way must not come after this
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
            self._log.error(f"snapshot {generation} is not used: {error}")

    def _adopt(self, generation):
        snapshot = self._read(generation)
        if snapshot is None:
            return
        with self._lock:
            previous, self.current = self.current, snapshot
        self._adopted(snapshot, previous)
