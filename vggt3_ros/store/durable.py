"""Writes that survive a power cut: contents reach the disk before the name that refers to them."""

import os
from pathlib import Path


def sync(path: str | Path) -> None:
    """Flush a file's content, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: str | Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents, and flush the names of all to the disk."""
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def rename(source: str | Path, target: str | Path) -> None:
    """Rename a file or folder after flushing its whole content. After a power cut, `target` is
    complete or does not exist.
    """
    source, target = Path(source), Path(target)
    for folder, _, files in os.walk(source, topdown=False):
        for path in (*(os.path.join(folder, name) for name in files), folder):
            sync(path)
    if source.is_file():
        sync(source)
    os.rename(source, target)
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def write_file(path: str | Path, content: bytes) -> None:
    """Write bytes so that `path` holds the old content or the new one at every moment. OSError
    where the folder is missing or refuses.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        rename(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def check_target(path: str | Path) -> Path:
    """Return the Path of a file that is to be written; ValueError where that cannot be, before
    anything is computed for it.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file in it")
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"{path} cannot be written: there is no folder {path.parent}; make it first"
        )
    if not os.access(path.absolute().parent, os.W_OK):
        raise ValueError(
            f"{path} cannot be written: the folder {path.parent} is read-only for this user"
        )
    return path
