"""How much memory there may be, what an error of missing memory looks like, and plans that need
less. No torch, no ROS.
"""

import ctypes
import errno
import gc
import os
import sys
from dataclasses import replace
from pathlib import Path

USABLE = 0.75  # of the machine's memory, where no limit is set
SMALLEST_PLAN = 4  # how often a plan can be shrunk
ALL_ARENAS = b"arena.4096.purge"  # MALLCTL_ARENAS_ALL of jemalloc 5
SIGNS = (
    "out of memory",
    "bad_alloc",
    "can't allocate memory",
    "cannot allocate memory",
    "insufficient memory",
)


def out_of_memory(error):
    """Whether an exception says so: Python's, torch's on a device or a CPU, OpenCV's, the
    operating system's, std::bad_alloc.
    """
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    return isinstance(error, Exception) and any(sign in str(error).lower() for sign in SIGNS)


def shrunk(config, level):
    """BackendConfig for a refinement that needs less memory: at each level half of what is cached,
    remembered and published, and from the second on a coarser map. 0: as it is.
    """
    if not level:
        return config
    share, coarser = 0.5**level, 1.5 ** (level - 1)
    return replace(
        config,
        resources=replace(
            config.resources, frame_cache_mb=max(16, int(config.resources.frame_cache_mb * share))
        ),
        memory=replace(config.memory, max_slots=max(10_000, int(config.memory.max_slots * share))),
        map=replace(
            config.map,
            voxel_size=min(1.0, config.map.voxel_size * coarser),
            max_points=max(1000, int(config.map.max_points * share)),
        ),
        network=replace(
            config.network, max_keyframes=max(3, int(config.network.max_keyframes * share))
        ),
    )


def plan_text(config):
    """What :func:`shrunk` changes, for people."""
    return (
        f"{config.resources.frame_cache_mb} MB of features, {config.memory.max_slots} slots, "
        f"voxels of {100 * config.map.voxel_size:.2g} cm, {config.map.max_points} points"
    )


def machine_memory_mb():
    """Of this machine, or of the control group where that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group, or its limit is "max"
        pass
    return total // 2**20


def limit_mb(resources):
    """What the worker and its children may take, of a ResourceConfig."""
    return resources.memory_limit_mb or int(USABLE * machine_memory_mb())


def device_mb():
    """What torch has reserved on GPUs in this process, MB; 0 without torch or GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return 0.0
    return sum(torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count())) / 2**20


def oom_kills():
    """How many processes the kernel has ended for want of memory since it started."""
    try:
        lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(lines.get("oom_kill", 0))


def give_back():
    """Return what was freed to the system and to the device: jemalloc, as environment.py sets it,
    and torch keep it otherwise.
    """
    gc.collect()
    libraries = ctypes.CDLL(None)
    if hasattr(libraries, "mallctl"):
        libraries.mallctl(ALL_ARENAS, None, None, None, ctypes.c_size_t(0))
    elif hasattr(libraries, "malloc_trim"):
        libraries.malloc_trim(0)
    if device_mb():
        sys.modules["torch"].cuda.empty_cache()
