"""One folder with everything: keyframes, the newest snapshot with its memory, the cloud and the trajectory. Needs no ROS."""

import re
import shutil
from pathlib import Path

from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.mapping.export import write_ply

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BadName(ValueError):
    """Not a plain folder name."""


def map_to_load(root, name):
    """Path of the saved map root/name. Raises BadName, FileNotFoundError when there is none, or it lies elsewhere by a link."""
    root = _checked(root, name)
    folder = root / name
    if not (folder / "keyframes.db").is_file():
        raise FileNotFoundError(f"there is no saved map {folder}")
    if not (folder / "keyframes.db").resolve().is_relative_to(root.resolve()):
        raise FileNotFoundError(f"{folder} is a link out of {root}")
    return folder


def _checked(root, name):
    if not NAME.fullmatch(name):
        raise BadName(f"name must be 1 to 100 letters, digits or . _ - and start with a letter or digit, got '{name[:120]}'")
    return Path(root).expanduser()


def save_map(store, snapshot, root, name):
    """Write root/name; complete or not at all. Returns its Path.

    Raises BadName, FileExistsError when there is such a folder, OSError or StoreError when it cannot be written.
    """
    root = _checked(root, name)
    folder, partial = root / name, root / f".{name}.partial"
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} exists; choose another name or remove it")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        store.backup(partial)
        if snapshot is not None:
            generation = f"{snapshot.generation:06d}"
            shutil.copytree(store.snapshots / generation, partial / "snapshots" / generation)
            write_ply(partial / "map.ply", snapshot.cloud)
            write_trajectory_tum(partial / "trajectory.txt", snapshot.stamps_ns, snapshot.T_map_cam, "T_map_cam")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
