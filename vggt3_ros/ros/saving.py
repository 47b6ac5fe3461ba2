"""One folder with everything: keyframes, the newest snapshot with its memory, the cloud and the trajectory. Needs no ROS."""

import re
import shutil
from pathlib import Path

from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.mapping.export import write_ply

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BadName(ValueError):
    """Not a plain folder name."""


def save_map(store, snapshot, root, name):
    """Write root/name; complete or not at all. Returns its Path.

    Raises BadName, FileExistsError when there is such a folder, OSError or StoreError when it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise BadName(f"name must be 1 to 100 letters, digits or . _ - and start with a letter or digit, got '{name[:120]}'")
    root = Path(root).expanduser()
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
