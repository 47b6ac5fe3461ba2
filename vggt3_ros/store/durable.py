"""What is written so that a power cut cannot take it: files and folders reach the disk before a
name says that they are there.
"""

import os
from pathlib import Path


def sync(path):
    """Have the disk hold a file's content, or which names a folder holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder, mode=0o777):
    """With its parents, where it is missing; each is named on the disk."""
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def rename(source, target):
    """Give a file or folder another name, once all that is in it is on the disk. After a power cut
    `target` is whole, or not there.
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
