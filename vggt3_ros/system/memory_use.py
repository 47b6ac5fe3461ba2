"""Memory of a process and its children, from /proc. Processes that have ended are not counted."""

from pathlib import Path

SELF = "self"  # this process, in /proc


def resident_mb(pid: int | str = SELF) -> float:
    """Return the resident memory of a process and its children, MiB; 0 if it has ended."""
    return _total(pid, "VmRSS")


def peak_mb(pid: int | str = SELF) -> float:
    """Return the sum of the peak resident memory of a process and of its children, MiB."""
    return _total(pid, "VmHWM")


def children(pid: int | str = SELF) -> list[int]:
    """Return the process ids of the children of all threads of a process; empty if the kernel
    does not list them.
    """
    out: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            out += map(int, path.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return out


def _total(pid: int | str, field: str) -> float:
    total = 0
    for process in (pid, *children(pid)):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue  # the process has just ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return total / 1024
