"""vggt3 localize: localize images in a saved map, without ROS."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers

if TYPE_CHECKING:
    from vggt3_ros.memory.localizer import Localization


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "localize",
        help="localize images in a saved map, without ROS",
        description="Prints a line "
        "for each image: its name and the pose of the camera (optical axes) in the map, 'x y z qx qy qz qw' in "
        "metres, with its standard deviation; or why it was not localized. Exit status 1 when one was not.",
    )
    parser.add_argument(
        "path",
        metavar="MAP",
        help="a folder that save_map wrote, or a node's store (it may be in use)",
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files that OpenCV reads")
    parser.add_argument(
        "--camera",
        metavar="FILE",
        help="camera.yaml with width, height, fx, fy, cx, cy [, distortion_model, distortion]; "
        "by default the camera of the map, for images of its size",
    )
    parser.add_argument(
        "--quick", action="store_true", help="use the scene memory alone: faster and coarser"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per line, with matrix and covariance",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a config value, such as localizer.minimum_inliers=25",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from pathlib import Path

    from vggt3_ros.backend import Backend
    from vggt3_ros.cli.saved_map import open_map
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.camera_file import read_camera
    from vggt3_ros.datasets.image_files import read_image
    from vggt3_ros.messages.levels import IMAGE_BITS, Levels

    config = BackendConfig.from_flat(parse_settings(arguments.set))
    missing = [name for name in arguments.images if not Path(name).is_file()]
    if missing:
        raise ValueError(f"file not found: {missing[0]}")
    with open_map(arguments.path) as (store, snapshot):
        camera = (
            read_camera(Path(arguments.camera), 1.0)[0]
            if arguments.camera
            else store.camera(int(snapshot.keyframe_ids[0]))
        )
        levels = Levels.noted(store.get_note(IMAGE_BITS))
        images = [read_image(name, camera, levels) for name in arguments.images]
        backend = Backend(store, config)
        lost = 0
        for name, image in zip(arguments.images, images):
            found = backend.localize(image, camera, verify=not arguments.quick)
            lost += found.code != "ok"
            print(_as_json(name, found) if arguments.json else _as_text(name, found), flush=True)
    return 1 if lost else 0


def _as_text(name: str, found: Localization) -> str:
    """Format the answer for an image as one line."""
    import numpy as np

    from vggt3_ros.geometry import se3

    if found.T_map_cam is None or found.covariance is None:
        return f"{name}: {found.code.replace('_', ' ')}: {found.message}"
    position, quaternion = se3.to_quaternion(found.T_map_cam)
    sigma = np.sqrt(np.diag(found.covariance))
    numbers = " ".join(f"{value:.6f}" for value in (*position, *quaternion))
    return f"{name}: {numbers}  +- {np.linalg.norm(sigma[:3]):.4f} m, {np.linalg.norm(sigma[3:]):.4f} rad, {found.inliers} inliers"


def _as_json(name: str, found: Localization) -> str:
    """Format the answer for an image as a JSON object."""
    from vggt3_ros.system import strict_json

    fields: dict[str, object] = {
        "image": name,
        "code": found.code,
        "message": found.message,
        "generation": int(found.generation),
        "inliers": int(found.inliers),
        "seconds": float(found.seconds),
        "verified": bool(found.verified),
        "reprojection_error_px": float(found.reprojection_error_px),
    }
    for field in ("T_map_cam", "covariance"):
        value = getattr(found, field)
        fields[field] = value
    return strict_json.dumps(fields)
