"""Memory of a process and its children. Processes that have ended are not counted."""

import os
from collections.abc import Iterator
from pathlib import Path

try:
    import psutil
except ImportError:  # a bare GPU machine, where only the network runs
    psutil = None  # type: ignore[assignment]


def resident_mb(pid: int | None = None) -> float:
    """Return the resident memory of a process and its children, MiB; 0 if it has ended. pid: None
    for this process.
    """
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # the process has just ended
    return total / 2**20


def peak_mb(pid: int | None = None) -> float:
    """Return the sum of the peak resident memory of a process and of its children, MiB. pid: None
    for this process.
    """
    return sum(peak_bytes(process.pid) for process in _family(pid)) / 2**20


def peak_bytes(pid: int | None = None) -> int:
    """Return the peak resident memory of one process, bytes; 0 if it has ended.

    It is read from /proc: psutil has the peak on Windows only, and getrusage(2) only that of the
    calling process.
    """
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def children(pid: int | None = None) -> list[int]:
    """Return the process ids of the children of a process. pid: None for this process."""
    return [process.pid for process in _family(pid)][1:]


def _family(pid: int | None) -> "Iterator[psutil.Process]":
    """Yield the process, then its children, without those that have ended."""
    try:
        process = psutil.Process(pid)
        yield process
        yield from process.children()
    except psutil.NoSuchProcess:
        return
