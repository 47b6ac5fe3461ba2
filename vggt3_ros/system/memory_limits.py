"""How much memory may be used, how running out of it is recognised, and how freed memory is
returned. No torch, no ROS.
"""

import ctypes
import errno
import gc
import sys
from contextlib import suppress
from pathlib import Path

try:
    import psutil
except ImportError:  # a bare GPU machine, where only the network runs
    psutil = None  # type: ignore[assignment]

USABLE_SHARE = 0.75  # of the machine's memory, if no limit is configured
ALL_ARENAS = b"arena.4096.purge"  # MALLCTL_ARENAS_ALL of jemalloc 5
SIGNS = (
    "out of memory",
    "bad_alloc",
    "can't allocate memory",
    "cannot allocate memory",
    "insufficient memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out: from Python, torch (CPU or GPU),
    OpenCV, the operating system, or a std::bad_alloc.
    """
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    return isinstance(error, Exception) and any(sign in str(error).lower() for sign in SIGNS)


def machine_memory_mb() -> int:
    """Return the memory of this machine, or the control group's limit if that is lower, MiB."""
    total = psutil.virtual_memory().total
    with suppress(
        OSError, ValueError
    ):  # no control group, or its limit is "max"; psutil reads neither
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total // 2**20


def limit_mb(configured_mb: int) -> int:
    """Return the memory that the worker and its children may use, MiB. configured_mb:
    resources.memory_limit_mb; 0: a share of the machine's.
    """
    return configured_mb or int(USABLE_SHARE * machine_memory_mb())


def device_mb() -> float:
    """Return what torch has reserved on GPUs in this process, MiB; 0 without torch or GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return 0.0
    reserved = sum(torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count()))
    return float(reserved) / 2**20


def oom_kills() -> int:
    """Return how many processes the kernel's OOM killer has killed since boot; 0 if unknown.

    psutil does not have that count.
    """
    try:
        lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(lines.get("oom_kill", 0))


def give_back() -> None:
    """Return freed memory to the system and the device, which jemalloc (as environment.py
    configures it) and torch would otherwise keep.
    """
    gc.collect()
    libraries = ctypes.CDLL(None)
    if hasattr(libraries, "mallctl"):
        libraries.mallctl(ALL_ARENAS, None, None, None, ctypes.c_size_t(0))
    elif hasattr(libraries, "malloc_trim"):
        libraries.malloc_trim(0)
    if device_mb():
        sys.modules["torch"].cuda.empty_cache()
