"""Merge several saved maps or stores into one, in a new folder."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.memory.localizer import Localization
from vggt3_ros.refinement.merging import Loaded, merge, open_store
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

Progress = Callable[[str, float], object]  # (stage, fraction of it)


class BackEnd(Protocol):
    """The part of a Backend that is used here; refinement cannot import the class itself."""

    @property
    def snapshot(self) -> Snapshot | None: ...
    def refine(self, progress: Progress | None = None) -> Snapshot: ...
    def localize(self, image: np.ndarray, camera: Camera) -> Localization: ...
    def join(self, folder: Path | str) -> Loaded: ...


def unite(
    folders: Sequence[Path],
    out: Path,
    back_end: Callable[[KeyframeStore], BackEnd],
    progress: Progress,
) -> tuple[Snapshot | None, list[tuple[Path, Loaded]]]:
    """Merge the maps in `folders` into the new folder `out`; the first defines the frame. The
    folders themselves are not changed.

    Maps that were not refined, or not with all their keyframes, are refined first. When one was
    saved without images, the result has no images: scene memories are joined, and nothing is
    refined after that. back_end(store) returns a Backend on a store. progress(stage, fraction) is
    called during refinements. Raises LoadError.

    Return (the Snapshot of all, [(folder, Loaded), ...] for the folders after the first).
    """
    with_images = True
    for folder in folders:
        with open_store(folder) as store:  # an unreadable one must fail before hours of work
            with_images &= store.has_images
    _copy(folders[0], out)
    with KeyframeStore(out) as store:
        backend = _refined(store, back_end, progress, with_images)
        merged: list[tuple[Path, Loaded]] = []
        for folder in folders[1:]:
            arriving = out / "arriving"
            _copy(folder, arriving)
            with KeyframeStore(arriving) as other:
                _refined(other, back_end, progress, with_images)
            if with_images:
                if backend.snapshot is None or len(backend.snapshot) < len(store):
                    backend.refine(progress)
                merged.append((folder, merge(store, arriving, backend.snapshot, backend.localize)))
            else:
                merged.append((folder, backend.join(arriving)))
                backend = back_end(store)
            shutil.rmtree(arriving)
        return backend.refine(progress) if with_images else backend.snapshot, merged


def _refined(
    store: KeyframeStore,
    back_end: Callable[[KeyframeStore], BackEnd],
    progress: Progress,
    with_images: bool,
) -> BackEnd:
    """Return a Backend on the store, with a map made of all its keyframes. Without `with_images`
    the store's images are removed.
    """
    backend = back_end(store)
    if store.has_images and (backend.snapshot is None or len(backend.snapshot) < len(store)):
        backend.refine(progress)
    if store.has_images and not with_images:
        store.forget_images()
        backend = back_end(store)
    return backend


def _copy(folder: Path, target: Path) -> None:
    """Copy the keyframes and the newest snapshot."""
    target.mkdir()
    with open_store(folder) as store:
        store.backup(target)
        for newest in sorted(store.snapshots.glob("[0-9]" * 6))[-1:]:
            shutil.copytree(newest, target / "snapshots" / newest.name)
