"""vggt3 import: convert the output of VGGT-Long, VGGT-SLAM or LingBot-Map to keyframes of a map."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.feed_forward import Run
    from vggt3_ros.geometry.camera import Camera

CLOCK_START = 1.0  # seconds; ROS takes a stamp of zero for unset


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "import",
        help="convert a trajectory and points of VGGT-Long, VGGT-SLAM or LingBot-Map to keyframes and refine them",
        description="Poses become the odometry of the keyframes, dense output their depth. Writes a store with its refined map. The "
        "node can continue it; vggt3 export, localize and view can read it.",
    )
    parser.add_argument(
        "run_path",
        metavar="RUN",
        help="camera_poses.txt of VGGT-Long, the poses of VGGT-SLAM (--log_results), or LingBot-Map's "
        "folder of predictions (--save_predictions)",
    )
    parser.add_argument(
        "--images", required=True, metavar="FOLDER", help="the images that the run was given"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the store; must not exist")
    parser.add_argument(
        "--kind",
        choices=("vggt-long", "vggt-slam", "lingbot-map"),
        help="by default determined from the files",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="METRES",
        help="length of one unit of the run, because these networks do not estimate scale",
    )
    parser.add_argument(
        "--camera",
        metavar="FILE",
        help="camera.yaml of the images, instead of the camera that the run estimated",
    )
    parser.add_argument(
        "--points",
        metavar="FILE.ply",
        help="points of the run, projected into the cameras where there is no other depth",
    )
    parser.add_argument(
        "--least-confidence",
        type=float,
        default=1.5,
        help="minimum confidence of depth (LingBot-Map); 1 means no confidence",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="use only every Nth image as a keyframe"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=10.0,
        metavar="HZ",
        help="image rate, used if the file names are not stamps in seconds",
    )
    parser.add_argument("--keyframes-only", action="store_true", help="do not refine")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a config value, such as memory.steps=300",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    import shutil
    from pathlib import Path

    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.camera_file import read_camera
    from vggt3_ros.datasets.feed_forward import read_run

    out = Path(arguments.out)
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists: name a new folder with --out")
    if not 0 < arguments.scale < 1e6:
        raise ValueError(f"--scale must be a positive number of metres, got {arguments.scale:g}")
    if arguments.every < 1 or not 0 < arguments.rate <= 10_000:
        raise ValueError("--every must be 1 or more, --rate 0 to 10000 Hz")
    config = BackendConfig.from_flat(parse_settings(arguments.set))
    camera = read_camera(Path(arguments.camera), 1000.0)[0] if arguments.camera else None
    found = read_run(
        arguments.run_path, arguments.images, arguments.kind, arguments.least_confidence
    )
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with StageBars(arguments.quiet) as bars:
            text = _imported(found, camera or found.camera, arguments, partial, config, bars)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{out}: {text}")
    return 0


def _imported(
    found: Run,
    camera: Camera | None,
    arguments: argparse.Namespace,
    folder: Path,
    config: BackendConfig,
    bars: StageBars,
) -> str:
    """Write the keyframes to a store, refine them unless told otherwise, and return a summary."""
    from vggt3_ros.backend import Backend
    from vggt3_ros.store.keyframe import Keyframe
    from vggt3_ros.store.keyframes import KeyframeStore

    if camera is None:
        raise ValueError(
            f"{arguments.run_path} does not contain the camera: write width, height, fx, fy, cx, cy to a file and name it with --camera"
        )
    chosen = range(0, len(found.images), arguments.every)
    stamps, depth_of = (
        _stamps([found.images[i] for i in chosen], arguments.rate / arguments.every),
        _depth(found, camera, arguments),
    )
    with KeyframeStore(folder) as store:
        for count, i in enumerate(chosen):
            image, encoded = _image(found.images[i], camera)
            pose = found.T_world_cam[i].copy()
            pose[:3, 3] *= arguments.scale
            store.put(
                Keyframe(count, stamps[count], image, camera, pose, depth_of(i)),
                encoded,
                found.images[i].suffix[1:],
            )
            bars("import", (count + 1) / len(chosen))
        with_depth = len(store) - len(store.without_depth())
        text = f"{len(store)} keyframes, {with_depth} of them with depth"
        if arguments.keyframes_only:
            return text
        backend = Backend(store, config)
        try:
            snapshot = backend.refine(bars)
        finally:
            backend.close()
        loops = sum(loop.accepted for loop in snapshot.loops)
        return f"{text}, {loops} loops, {len(snapshot.cloud)} points"


def _image(file: Path, camera: Camera) -> tuple[np.ndarray, bytes]:
    """Return (pixels, the unchanged bytes of the file)."""
    from vggt3_ros.datasets.image_files import read_image

    return read_image(file, camera), file.read_bytes()


def _stamps(files: Sequence[Path], rate: float) -> list[int]:
    """Return stamps in nanoseconds: the seconds in the file names if all are increasing decimal
    numbers, else by the rate.
    """
    import re
    from itertools import pairwise

    matches = [re.fullmatch(r"(\d{1,10})\.(\d{1,9})", file.stem) for file in files]
    stamps = [int(match[1]) * 10**9 + int(match[2].ljust(9, "0")) for match in matches if match]
    increasing = all(a < b for a, b in pairwise(stamps))
    if len(stamps) == len(files) and increasing and stamps[0] > 0:
        return stamps
    return [int((CLOCK_START + index / rate) * 1e9) for index in range(len(files))]


def _depth(
    found: Run, camera: Camera, arguments: argparse.Namespace
) -> Callable[[int], np.ndarray | None]:
    """Return depth(i), which returns (height, width) float32 metres or None."""
    import numpy as np

    load_depth = found.load_depth
    if load_depth is not None:
        from vggt3_ros.datasets.feed_forward import whole_image

        return lambda i: (
            whole_image(load_depth(i), (camera.height, camera.width)) * np.float32(arguments.scale)
        )
    if not arguments.points:
        return lambda i: None
    from vggt3_ros.datasets.ply_points import read_points
    from vggt3_ros.geometry.projected_depth import projected_depth

    points, pinhole = read_points(arguments.points), camera.undistorted()
    if camera.is_distorted:
        raise ValueError(
            "--points needs images without distortion, because the points are projected without it"
        )
    return lambda i: (
        projected_depth(points, found.T_world_cam[i], pinhole) * np.float32(arguments.scale)
    )
