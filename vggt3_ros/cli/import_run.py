"""vggt3 import: what VGGT-Long, VGGT-SLAM or LingBot-Map left of a run, as keyframes of a map."""

import itertools

CLOCK_START = 1.0  # seconds; to ROS a stamp of zero is none


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "import",
        help="a trajectory with points of VGGT-Long, VGGT-SLAM or LingBot-Map -> keyframes, refined",
        description="Poses become the odometry of keyframes, dense output their depth. A store with its refined map is left, which the node "
        "continues and vggt3 export, localize and view read.",
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
        help="by default told by the files",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="METRES",
        help="of one unit of the run: these networks know no scale",
    )
    parser.add_argument(
        "--camera",
        metavar="FILE",
        help="camera.yaml of the images, instead of what the run estimated",
    )
    parser.add_argument(
        "--points",
        metavar="FILE.ply",
        help="points of the run, seen from the cameras for depth where there is no other",
    )
    parser.add_argument(
        "--least-confidence",
        type=float,
        default=1.5,
        help="of depth (LingBot-Map); 1 is not sure at all",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="only every Nth image is a keyframe"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=10.0,
        metavar="HZ",
        help="of the images, where their names are no stamps in seconds",
    )
    parser.add_argument("--keyframes-only", action="store_true", help="do not refine")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a config value, as memory.steps=300",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(arguments):
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


def _imported(found, camera, arguments, folder, config, bars):
    from vggt3_ros.backend import Backend
    from vggt3_ros.store.keyframe import Keyframe
    from vggt3_ros.store.keyframes import KeyframeStore

    if camera is None:
        raise ValueError(
            f"{arguments.run_path} tells no camera: write its width, height, fx, fy, cx, cy into a file and name it with --camera"
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


def _image(file, camera):
    """(pixels, bytes of the file as they are)"""
    from vggt3_ros.datasets.image_files import read_image

    return read_image(file, camera), file.read_bytes()


def _stamps(files, rate):
    """Nanoseconds: the names' seconds where all are decimal numbers that increase, else by the
    rate.
    """
    import re

    matches = [re.fullmatch(r"(\d{1,10})\.(\d{1,9})", file.stem) for file in files]
    if all(matches):
        stamps = [int(match[1]) * 10**9 + int(match[2].ljust(9, "0")) for match in matches]
        if all(a < b for a, b in itertools.pairwise(stamps)) and stamps[0] > 0:
            return stamps
    return [int((CLOCK_START + index / rate) * 1e9) for index in range(len(files))]


def _depth(found, camera, arguments):
    """depth(i) -> (height, width) float32 metres, or None."""
    import numpy as np

    if found.load_depth is not None:
        from vggt3_ros.datasets.feed_forward import whole_image

        return lambda i: (
            whole_image(found.load_depth(i), (camera.height, camera.width))
            * np.float32(arguments.scale)
        )
    if not arguments.points:
        return lambda i: None
    from vggt3_ros.datasets.ply_points import read_points
    from vggt3_ros.geometry.projected_depth import projected_depth

    points, pinhole = read_points(arguments.points), camera.undistorted()
    if camera.is_distorted:
        raise ValueError(
            "--points needs images without distortion: its depth is projected without any"
        )
    return lambda i: (
        projected_depth(points, found.T_world_cam[i], pinhole) * np.float32(arguments.scale)
    )
