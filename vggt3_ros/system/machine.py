"""What a measurement was made on: processor, load, versions, commit. Two figures compare only
where these agree.
"""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from vggt3_ros.system.version import VERSION

SAME = "cpu", "cores", "gpu", "memory_gb"  # what makes two machines one, for timings
LIBRARIES = "torch", "numpy", "opencv-python", "gtsam", "open3d", "poselib", "kornia"


def describe() -> dict[str, object]:
    """This machine and what runs on it: cpu, cores (that this process may use), memory_gb, gpu
    (None without one), load (processes that wanted a core, mean of the last minute), system,
    python, libraries {name: version}, version and commit of this package (None without git;
    "-modified" at its end where the checkout differs from it).
    """
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpu(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "version": VERSION,
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the checkout that this package lies in; what is not committed makes it "-modified"."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None  # installed; a repository around it is another one's
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=-modified", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
