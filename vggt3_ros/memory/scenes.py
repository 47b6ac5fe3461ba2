"""The scene that is served: the newest snapshot of the store with its memory and places, replaced
as one.
"""

import logging
from dataclasses import replace

from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.memory.localizer import Scene
from vggt3_ros.store.snapshot import PLACES_FILE, Snapshot

_log = logging.getLogger(__name__)


class Scenes:
    """store: KeyframeStore; frames: FrameSource, None for a map without images;
    load_memory(folder, snapshot) -> SceneMemory or None; keep: snapshots on the disk.

    current: the Scene served, the newest that can be read at first, None without one. memory,
    places and snapshot: its parts, or None.
    """

    def __init__(self, store, frames, load_memory, keep):
        self._store, self._folder, self._frames, self._load_memory, self._keep = (
            store,
            store.snapshots,
            frames,
            load_memory,
            keep,
        )
        self.current = self._newest()

    @property
    def snapshot(self):
        return self.current.snapshot if self.current else None

    @property
    def memory(self):
        return self.current.memory if self.current else None

    @property
    def places(self):
        return self.current.places if self.current else None

    def next_generation(self):
        """Beyond every number used so far; a damaged snapshot keeps its own."""
        used = [int(folder.name) for folder in self._folders()]
        return max(used + [self.snapshot.generation if self.snapshot else 0]) + 1

    def publish(self, snapshot, memory, places):
        """Write it, serve it, remove those that are too old."""
        folder = self._folder / f"{snapshot.generation:06d}"
        snapshot.save(folder, memory, places)
        self.current = Scene(snapshot, memory, places, self._frames)
        for old in self._folders()[: -self._keep]:
            Snapshot.remove(old)

    def follow_session(self):
        """Another session runs: the scene stays."""
        if self.current is not None:
            self.current = replace(
                self.current, snapshot=replace(self.current.snapshot, session=self._store.session)
            )

    def _folders(self):
        return sorted(self._folder.glob("[0-9]" * 6))

    def _newest(self):
        for folder in reversed(self._folders()):
            try:
                snapshot = Snapshot.of(self._store, folder)
                memory = self._load_memory(folder, snapshot)
                places = (
                    PlaceIndex.load(folder / PLACES_FILE)
                    if (folder / PLACES_FILE).exists()
                    else None
                )
                return Scene(snapshot, memory, places, self._frames)
            except ValueError as error:
                _log.warning("%s; an older one is served", error)
        return None
