"""The process environment torch needs on a CPU; scripts/environment.sh sets the same for the
shell.

glibc gives large tensors back to the kernel after every training step and faults them in again:
ten times slower than with jemalloc told to keep them. libgomp spins at barriers, so that one other
busy process makes it twenty times slower. numpy's own threads beside torch's only wait for a core:
a product of half a millisecond took up to a hundred.
"""

import ctypes
import os
import signal
import sys
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


SWITCH_SECONDS = 5e-5  # Python's default: 5e-3


def take_short_turns():
    """Let Python's threads pass the interpreter on a hundred times as often as by default.

    A callback that stores an image or asks torch gives the interpreter away for each piece of
    native work, and waited up to 5 ms to have it back from the executor or a refinement: 59
    keyframes a second were taken in, now 99 to 117 (`vggt3 benchmark node`).
    """
    sys.setswitchinterval(SWITCH_SECONDS)


def worker_environment(base=None):
    """A copy of `base` (default: this process's environment) with the settings added where they
    are missing.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault("OMP_WAIT_POLICY", OMP_WAIT_POLICY)
    environment.setdefault("OPENBLAS_NUM_THREADS", OPENBLAS_NUM_THREADS)
    allocator = next(
        (path for folder in FOLDERS if (path := Path(folder) / "libjemalloc.so.2").exists()), None
    )
    if allocator and "jemalloc" not in environment.get("LD_PRELOAD", ""):
        environment["LD_PRELOAD"] = " ".join(
            filter(None, [str(allocator), environment.get("LD_PRELOAD")])
        )
        environment.setdefault("MALLOC_CONF", MALLOC_CONF)
    return environment


def foreign_environment():
    """A copy of this process's environment for other programs: without the allocator that torch
    needs here, on which ORB-SLAM3 crashed.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("LD_PRELOAD", "MALLOC_CONF")
    }


def restart_with_settings():
    """Replace this process by one of the same command line, once, when the settings are missing:
    both are read before Python starts.
    """
    wanted = worker_environment()
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def end_with_parent():
    """Have the kernel end this process when the thread that started it ends (child_process.py), in
    whatever way: nothing works on for nobody.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
