"""Open a saved map or a node's store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vggt3_ros.store.keyframes import KeyframeStore
    from vggt3_ros.store.snapshot import Snapshot


@contextmanager
def open_map(path: Path | str) -> Iterator[tuple[KeyframeStore, Snapshot]]:
    """Open a folder read-only as (KeyframeStore, newest Snapshot). A node may be using the store.

    Raises ValueError if the folder holds no refined map.
    """
    from vggt3_ros.store.keyframes import KeyframeStore
    from vggt3_ros.store.snapshot import Snapshot

    if not (Path(path) / "keyframes.db").is_file():
        raise ValueError(f"{path} is not a saved map: it holds no keyframes.db")
    with KeyframeStore(path, read_only=True) as store:
        folders = sorted(store.snapshots.glob("[0-9]" * 6))
        if not folders:
            raise ValueError(
                f"{path} holds {len(store)} keyframes but no refined map: refine it first"
            )
        yield store, Snapshot.load(folders[-1])
