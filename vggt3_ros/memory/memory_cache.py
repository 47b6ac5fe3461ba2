"""Scene memories in files, the last used of them kept loaded: a map of many rooms has more than are ever asked at once."""

import threading
from collections import OrderedDict
from contextlib import suppress

from vggt3_ros.memory.scene_memory import SceneMemory


class MemoryCache:
    """cache(path) -> SceneMemory. Holds at most `limit_mb` of them, and at least the last one. Thread-safe.

    Files that share an inode are one memory: a snapshot links those that it took over from the one before.
    """

    def __init__(self, limit_mb, device="cpu"):
        self.limit, self.device = limit_mb * 2**20, device
        self._held, self._size, self._lock = OrderedDict(), 0, threading.Lock()

    def __call__(self, path):
        """ValueError naming the file when it is missing or damaged."""
        key = _identity(path)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        return self._hold(key, SceneMemory.load(path, self.device))

    def __len__(self):
        return len(self._held)

    def put(self, path, memory):
        """Write `memory` to `path`, which must not exist, and hold it."""
        memory.save(path)
        self._hold(_identity(path), memory)

    def only(self, paths):
        """Forget all but these, files that are gone among them: a memory that was distilled again would be held until others crowd it
        out."""
        wanted = set()
        for path in paths:
            with suppress(ValueError):
                wanted.add(_identity(path))
        with self._lock:
            for key in [key for key in self._held if key not in wanted]:
                self._size -= self._held.pop(key).nbytes

    @staticmethod
    def facts(path):
        """(validation_error_m, steps) of a file; ValueError when it is damaged. Its values are not read."""
        return SceneMemory.facts(path)

    def _hold(self, key, memory):
        with self._lock:
            if key not in self._held:
                self._held[key] = memory
                self._size += memory.nbytes
            while self._size > self.limit and len(self._held) > 1:
                self._size -= self._held.popitem(last=False)[1].nbytes
        return memory


def _identity(path):
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{path} is not a readable scene memory: {error}") from error
    return status.st_dev, status.st_ino, status.st_mtime_ns
