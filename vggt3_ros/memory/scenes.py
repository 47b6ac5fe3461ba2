"""The scene that is served: the newest snapshot of the store with its memory and place index,
replaced as one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vggt3_ros.features.frame import Frame, FrameSource
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PLACES_FILE, Snapshot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scene:
    """The data that a localization reads, replaced as one.

    A Snapshot, its SceneMemory and PlaceIndex (None without depth or keypoints), and
    frame(keyframe id) -> Frame, None for a map without images.
    """

    snapshot: Snapshot
    memory: SceneMemory | None
    places: PlaceIndex | None
    frame: Callable[[int], Frame] | None


class Scenes:
    """Loads, serves and saves the scenes of a store.

    frames: FrameSource, None for a map without images. load_memory(folder, snapshot): returns a
    SceneMemory or None, raises ValueError if it is damaged. keep: number of snapshots kept on
    disk. current: the Scene that is served, at first the newest readable one, None without any.
    """

    def __init__(
        self,
        store: KeyframeStore,
        frames: FrameSource | None,
        load_memory: Callable[[Path, Snapshot], SceneMemory | None],
        keep: int,
    ) -> None:
        self._store, self._folder, self._frames, self._load_memory, self._keep = (
            store,
            store.snapshots,
            frames,
            load_memory,
            keep,
        )
        self.current = self._newest()

    @property
    def snapshot(self) -> Snapshot | None:
        return self.current.snapshot if self.current else None

    @property
    def memory(self) -> SceneMemory | None:
        return self.current.memory if self.current else None

    @property
    def places(self) -> PlaceIndex | None:
        return self.current.places if self.current else None

    def next_generation(self) -> int:
        """Return a generation number above every one used so far, including those of damaged
        snapshots.
        """
        used = [int(folder.name) for folder in self._folders()]
        return max(used + [self.snapshot.generation if self.snapshot else 0]) + 1

    def publish(
        self, snapshot: Snapshot, memory: SceneMemory | None, places: PlaceIndex | None
    ) -> None:
        """Save the scene, serve it, and remove snapshots beyond `keep`."""
        folder = self._folder / f"{snapshot.generation:06d}"
        snapshot.save(folder, memory, places)
        self.current = Scene(snapshot, memory, places, self._frames)
        for old in self._folders()[: -self._keep]:
            Snapshot.remove(old)

    def follow_session(self) -> None:
        """Adopt the store's new running session; the scene itself stays."""
        if self.current is not None:
            self.current = replace(
                self.current, snapshot=replace(self.current.snapshot, session=self._store.session)
            )

    def _folders(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]" * 6))

    def _newest(self) -> Scene | None:
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
                _log.warning("%s; serving an older snapshot", error)
        return None
