"""Several saved maps or stores into one, in a new folder."""

import shutil

from vggt3_ros.refinement.merging import merge, open_store
from vggt3_ros.store.keyframes import KeyframeStore


def unite(folders, out, back_end, progress):
    """Maps in `folders`, the first of which gives the frame -> (Snapshot of all, [(folder,
    Loaded), ...]), written to the new folder `out`.

    Those that were never refined, or not with all their keyframes, are refined first; the folders
    are left as they are. Where one was saved without images the whole is a map without images:
    scene memories are put together, and nothing is refined after that. back_end(KeyframeStore) ->
    a Backend on it; progress(stage, fraction). Raises LoadError.
    """
    with_images = True
    for folder in folders:
        with open_store(folder) as store:  # what cannot be read is said before hours are spent
            with_images &= store.has_images
    _copy(folders[0], out)
    with KeyframeStore(out) as store:
        backend, merged = _refined(store, back_end, progress, with_images), []
        for folder in folders[1:]:
            arriving = out / "arriving"
            _copy(folder, arriving)
            with KeyframeStore(arriving) as other:
                _refined(other, back_end, progress, with_images)
            if with_images:
                if len(backend.snapshot) < len(store):
                    backend.refine(progress)
                merged.append((folder, merge(store, arriving, backend.snapshot, backend.localize)))
            else:
                merged.append((folder, backend.join(arriving)))
                backend = back_end(store)
            shutil.rmtree(arriving)
        return backend.refine(progress) if with_images else backend.snapshot, merged


def _refined(store, back_end, progress, with_images):
    """A Backend on the store, its map made of all keyframes; without images, those that it had are
    gone from the store.
    """
    backend = back_end(store)
    if store.has_images and (backend.snapshot is None or len(backend.snapshot) < len(store)):
        backend.refine(progress)
    if store.has_images and not with_images:
        store.forget_images()
        backend = back_end(store)
    return backend


def _copy(folder, target):
    """Keyframes and newest snapshot."""
    target.mkdir()
    with open_store(folder) as store:
        store.backup(target)
        for newest in sorted(store.snapshots.glob("[0-9]" * 6))[-1:]:
            shutil.copytree(newest, target / "snapshots" / newest.name)
