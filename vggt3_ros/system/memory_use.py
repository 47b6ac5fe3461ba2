"""Memory of a process and of those it started, from /proc. What has ended is not counted."""

from pathlib import Path


def resident_mb(pid="self"):
    """Resident now, MB, children included."""
    return _total(pid, "VmRSS")


def peak_mb(pid="self"):
    """The most that each was resident so far, MB in all."""
    return _total(pid, "VmHWM")


def children(pid="self"):
    """Process ids of the children of all threads of a process; none where the kernel does not list
    them.
    """
    out = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            out += map(int, path.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return out


def _total(pid, field):
    total = 0
    for process in (pid, *children(pid)):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue  # it has just ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return total / 1024
