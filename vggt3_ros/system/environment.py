"""The environment that torch needs to be fast on a CPU. scripts/environment.sh sets the same
variables for the shell.

- Allocator: glibc returns large tensors to the kernel after every training step and faults them in
  again, ten times slower than jemalloc configured to keep them.
- OpenMP: libgomp spins at barriers. With one other busy process, that makes torch twenty times
  slower.
- OpenBLAS: numpy's own threads beside torch's only compete for cores. A matrix product of half a
  millisecond took up to a hundred.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
OMP_WAIT_POLICY = "PASSIVE"
OPENBLAS_NUM_THREADS = "1"
MALLOC_CONF = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)


SWITCH_SECONDS = 5e-5  # Python's default is 5e-3


def shorten_switch_interval() -> None:
    """Make Python switch threads a hundred times as often as by default.

    A callback that stores an image or calls torch releases the interpreter lock for each native
    operation, and then waited up to 5 ms to get it back from the executor or a refinement. The
    node took in 59 keyframes a second before, 99 to 117 with this (`vggt3 benchmark node`).
    """
    sys.setswitchinterval(SWITCH_SECONDS)


def worker_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a copy of `base` (default: this process's environment) with the missing settings
    added.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault("OMP_WAIT_POLICY", OMP_WAIT_POLICY)
    environment.setdefault("OPENBLAS_NUM_THREADS", OPENBLAS_NUM_THREADS)
    allocator = next(
        (path for folder in FOLDERS if (path := Path(folder) / "libjemalloc.so.2").exists()), None
    )
    preloaded = environment.get("LD_PRELOAD", "")
    if allocator and "jemalloc" not in preloaded:
        environment["LD_PRELOAD"] = f"{allocator} {preloaded}".strip()
        environment.setdefault("MALLOC_CONF", MALLOC_CONF)
    return environment


def foreign_environment() -> dict[str, str]:
    """Return a copy of this process's environment for programs of others, without jemalloc: it
    crashed ORB-SLAM3.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("LD_PRELOAD", "MALLOC_CONF")
    }


def restart_with_settings() -> None:
    """Re-execute this process with the same command line if settings are missing: the dynamic
    linker and the libraries read them at start-up only.
    """
    wanted = worker_environment()
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends for any reason, so
    that no orphan keeps computing (see child_process.py).
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
