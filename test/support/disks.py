"""Disks that are full, or that nobody can write to. What needs root is skipped without it."""

import os
import resource
import subprocess
from contextlib import contextmanager

import pytest

BLOCK = 4096


def _mount(*arguments):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


class TinyDisk:
    """A file system of its own of so many kilobytes at `folder`. Needs root."""

    def __init__(self, folder, kilobytes):
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))

    def fill(self, but=0):
        """Until no more than `but` bytes are free."""
        with open(self._ballast, "ab", buffering=0) as file:
            try:
                while self.room() > but:
                    file.write(b"\0" * BLOCK)
            except OSError:
                pass

    def free(self):
        self._ballast.unlink(missing_ok=True)

    def room(self):
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class FileLimit:
    """No file of this process may grow beyond the size that the largest below `folder` has: needs
    no root, and fails with other errors.
    """

    def __init__(self, folder, kilobytes):
        self.folder, self._before = folder, resource.getrlimit(resource.RLIMIT_FSIZE)
        folder.mkdir()

    def fill(self, but=0):
        largest = max(
            (path.stat().st_size for path in self.folder.rglob("*") if path.is_file()), default=0
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + but, self._before[1]))

    def free(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def close(self):
        self.free()


@contextmanager
def read_only(folder):
    """Nothing can be written below `folder`; root does not mind permissions, and needs a mount."""
    if os.geteuid() == 0:
        _mount("--bind", str(folder), str(folder))
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        folder.chmod(0o500)
        try:
            yield
        finally:
            folder.chmod(0o700)
