"""A saved map, or a node's store, opened by its path."""

from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_map(path):
    """(KeyframeStore to read, newest Snapshot). The store may be in use. ValueError when the
    folder holds no refined map.
    """
    from vggt3_ros.store.keyframes import KeyframeStore
    from vggt3_ros.store.snapshot import Snapshot

    if not (Path(path) / "keyframes.db").is_file():
        raise ValueError(f"{path} is no saved map: it holds no keyframes.db")
    with KeyframeStore(path, read_only=True) as store:
        folders = sorted(store.snapshots.glob("[0-9]" * 6))
        if not folders:
            raise ValueError(
                f"{path} holds {len(store)} keyframes but no refined map: refine it first"
            )
        yield store, Snapshot.load(folders[-1])
