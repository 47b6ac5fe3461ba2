"""What a store holds now, read only: the page's one source, whoever writes the store."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.database import StoreError
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

_log = logging.getLogger(__name__)
MOST_SNAPSHOTS = 8  # that are told apart, the newest; a store may keep a thousand


@dataclass(frozen=True, eq=False)
class Seen:
    """What one look at a store found.

    stored: keyframes in it, refined or not. snapshots: those that can be read, the oldest first;
    only the last one with its points. cameras: {keyframe id: Camera} of the last one. written:
    when that was, seconds since 1970. has_images: False for a map that was saved without.
    problem: why there is nothing to show, or empty.
    """

    stored: int = 0
    snapshots: tuple[Snapshot, ...] = ()
    cameras: dict[int, Camera] = field(default_factory=dict)
    written: float = 0.0
    has_images: bool = True
    problem: str = ""

    @property
    def newest(self) -> Snapshot | None:
        return self.snapshots[-1] if self.snapshots else None


class Watch:
    """Looks at the store in `folder`, which may not be there yet, while others write it.

    The database is opened for each look: one that was opened at rest does not see what a node
    writes later, and none that is open keeps the node's log from being emptied.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._read: dict[tuple[str, int], Snapshot] = {}
        self._last: object = None
        self._unreadable: set[tuple[str, int]] = set()

    def look(self) -> Seen | None:
        """Seen where it differs from the last look, else None: then no snapshot is read."""
        try:
            state, seen = self._look()
        except (StoreError, KeyError) as error:  # a node may clear the store at any moment
            text = f"the store cannot be read: {error}"
            state, seen = text, Seen(problem=text)
        if state == self._last:
            return None
        self._last = state
        return seen

    def _look(self) -> tuple[object, Seen | None]:
        if not (self.folder / "keyframes.db").is_file():
            text = f"there is no store in {self.folder} yet: waiting for the node that writes it"
            return text, Seen(problem=text)
        with KeyframeStore(self.folder, read_only=True) as store:
            names, stored = self._names(), len(store)
            if (names, stored) == self._last:
                return self._last, None
            return (names, stored), self._seen(store, names, stored)

    def _names(self) -> tuple[tuple[str, int], ...]:
        """(name, time of writing) of the snapshots that are remembered here, the oldest first."""
        found = []
        for folder in sorted((self.folder / "snapshots").glob("[0-9]" * 6))[-MOST_SNAPSHOTS:]:
            try:
                found.append((folder.name, (folder / "snapshot.json").stat().st_mtime_ns))
            except OSError:  # the node has just removed it
                continue
        return tuple(found)

    def _seen(self, store: KeyframeStore, names: tuple[tuple[str, int], ...], stored: int) -> Seen:
        read = {name: self._snapshot(store, name) for name in names}
        self._read = {name: found for name, found in read.items() if found is not None}
        self._unreadable &= set(names)
        kept = list(self._read)
        if not kept:
            text = f"{stored} keyframes, no refined map yet: waiting for the first refinement"
            return Seen(stored, problem=text)
        newest = self._read[kept[-1]]
        # what is older is shown by its poses alone
        self._read |= {name: _without_points(self._read[name]) for name in kept[:-1]}
        return Seen(
            stored,
            tuple(self._read[name] for name in kept),
            {int(i): store.camera(int(i)) for i in newest.keyframe_ids},
            kept[-1][1] / 1e9,
            store.has_images,
        )

    def _snapshot(self, store: KeyframeStore, name: tuple[str, int]) -> Snapshot | None:
        if name in self._read:
            return self._read[name]
        try:
            snapshot: Snapshot = Snapshot.of(store, store.snapshots / name[0])
            return snapshot
        except ValueError as error:
            if name not in self._unreadable:
                _log.warning("%s; it is not shown", error)
            self._unreadable.add(name)
            return None


def _without_points(snapshot: Snapshot) -> Snapshot:
    cloud = snapshot.cloud
    return replace(
        snapshot,
        cloud=replace(
            cloud,
            points=cloud.points[:0],
            colors=cloud.colors[:0],
            confidence=cloud.confidence[:0],
        ),
    )
