"""Save a map to one folder: keyframes, newest snapshot with its memory, point cloud and
trajectory. Needs no ROS.
"""

import re
import shutil
import stat
from pathlib import Path

from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.store import durable
from vggt3_ros.store.database import FOLDER_MODE, StoreError
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import NO_CLOUD, Snapshot
from vggt3_ros.surface.export import write_ply

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BadName(ValueError):
    """The name is not a plain folder name."""


def map_to_load(root, name):
    """Return the path of the saved map root/name.

    Raises BadName, or FileNotFoundError if there is no such map, or if it contains a link or a
    special file.
    """
    root = _checked(root, name)
    folder = root / name
    if not (folder / "keyframes.db").is_file():
        raise FileNotFoundError(f"there is no saved map {folder}")
    if not folder.resolve().is_relative_to(root.resolve()):
        raise FileNotFoundError(f"{folder} is a link out of {root}")
    for entry in folder.rglob("*"):
        mode = entry.lstat().st_mode
        # Links may lead elsewhere; reading a pipe never ends.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FileNotFoundError(
                f"{entry} is a link or a special file, which a saved map never contains"
            )
    return folder


def _checked(root, name):
    if not NAME.fullmatch(name):
        raise BadName(
            f"name must be 1 to 100 letters, digits or . _ - and start with a letter or digit, got '{name[:120]}'"
        )
    return Path(root).expanduser()


def _reason(error):
    """Return an error as text. shutil.copytree collects the errors of all files."""
    if isinstance(error, shutil.Error):
        return error.args[0][0][2]
    return getattr(error, "strerror", "") or str(error)


def _without_images(folder):
    with KeyframeStore(folder) as copy:
        copy.forget_images()


def save_map(store, snapshot, root, name, images=True):
    """Write root/name and return its Path. The folder appears complete or not at all, even if the
    process is killed or power fails. Keyframes may arrive meanwhile.

    images: if False, leave out everything that shows the place: images, depth, features and the
    cloud. Poses, cameras and the scene memory remain, which suffice for localization. Raises
    BadName, FileExistsError if the folder exists, ValueError if it cannot be written or the
    snapshot cannot be read.
    """
    root = _checked(root, name)
    folder, partial = root / name, root / f".{name}.partial"
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} exists: choose another name or remove it")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        durable.make_folder(root, FOLDER_MODE)
        partial.mkdir(mode=FOLDER_MODE)
        store.backup(partial)
        if not images:
            _without_images(partial)
        if snapshot is not None:
            generation = f"{snapshot.generation:06d}"
            shutil.copytree(store.snapshots / generation, partial / "snapshots" / generation)
            if not images:
                Snapshot.forget_cloud(partial / "snapshots" / generation)
            write_ply(partial / "map.ply", snapshot.cloud if images else NO_CLOUD)
            order = snapshot.stamps_ns.argsort(kind="stable")
            write_trajectory_tum(
                partial / "trajectory.txt",
                snapshot.stamps_ns[order],
                snapshot.T_map_cam[order],
                "T_map_cam",
            )
        durable.rename(partial, folder)
    except FileExistsError as error:
        raise ValueError(f"{error.filename} exists but is not a folder") from error
    except (OSError, StoreError) as error:
        raise ValueError(
            f"cannot save {folder}: {_reason(error)}. Check permissions and free space, or choose another map_folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
