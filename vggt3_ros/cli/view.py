"""vggt3 view: show a saved map in a window, a picture or a browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers

if TYPE_CHECKING:
    import numpy as np
    import open3d as o3d

    from vggt3_ros.store.snapshot import PointMap, Snapshot

MOST_POINTS, MOST_WEB_POINTS = 2_000_000, 400_000


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "view",
        help="show a saved map: points, trajectory, loops; in a window, a browser or a picture",
        description="Opens a window (Open3D). --web serves a page that follows the store while a node writes it, "
        "shows images and localizes others; --png writes a picture. Both need no display. "
        "`vggt3 export --rerun` writes a file for the rerun viewer, with the images.",
    )
    parser.add_argument(
        "path",
        metavar="MAP",
        help="a folder that save_map wrote, or a node's store (it may be in use)",
    )
    parser.add_argument(
        "--png", metavar="FILE", help="write a picture instead of opening a window"
    )
    parser.add_argument(
        "--size", metavar="WxH", default="1280x960", help="of the window or picture, pixels"
    )
    parser.add_argument(
        "--max-points",
        type=int,
        metavar="N",
        help=f"thin the points to at most N: {MOST_POINTS:,} by default, {MOST_WEB_POINTS:,} with --web",
    )
    web = parser.add_argument_group("in a browser")
    web.add_argument("--web", action="store_true", help="serve a page until Ctrl-C")
    web.add_argument(
        "--port", type=int, default=8080, help="port of the page (default %(default)s); 0: any"
    )
    web.add_argument(
        "--host",
        default="127.0.0.1",
        help="address of the page (default %(default)s: this machine only); 0.0.0.0: every machine that can reach it",
    )
    web.add_argument(
        "--wait",
        action="store_true",
        help="wait for a store that does not exist yet, as beside a node",
    )
    web.add_argument(
        "--camera",
        metavar="FILE",
        help="camera.yaml of the images that are sent to the page; by default the map's cameras",
    )
    web.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a config value for localizing them, such as device=cpu",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from vggt3_ros.cli.saved_map import open_map

    size = _size(arguments.size)
    most_points = arguments.max_points
    if most_points is None:
        most_points = MOST_WEB_POINTS if arguments.web else MOST_POINTS
    if most_points < 1:
        raise ValueError(f"--max-points must be 1 or more, got {most_points}")
    if arguments.web:
        return _serve(arguments, most_points)
    with open_map(arguments.path) as (_, snapshot):
        cloud = snapshot.cloud.thinned(most_points)
    if arguments.png:
        from vggt3_ros.surface.export.picture import write_picture

        write_picture(arguments.png, snapshot, cloud, size)
    else:
        show(snapshot, cloud, size, arguments.path)
    print(
        f"map {snapshot.generation}: {len(snapshot)} keyframes, {len(cloud)} points, "
        f"{sum(loop.accepted for loop in snapshot.loops)} loops"
    )
    return 0


def _serve(arguments: argparse.Namespace, most_points: int) -> int:
    """Serve the page until Ctrl-C. Raises ValueError for a folder that is not a store."""
    import logging
    from pathlib import Path

    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.camera_file import read_camera

    folder = Path(arguments.path).expanduser()
    if arguments.png:
        raise ValueError("--png and --web exclude each other")
    if not arguments.wait and not (folder / "keyframes.db").is_file():
        raise ValueError(
            f"{folder} is no store: it holds no keyframes.db; add --wait where a node is about to write it"
        )
    config = BackendConfig.from_flat(parse_settings(arguments.set))
    camera = read_camera(Path(arguments.camera), 1.0)[0] if arguments.camera else None
    try:
        from vggt3_ros.web.serve import serve
    except ImportError as error:
        raise ValueError(
            f"the page needs viser ({error}): pip install 'vggt3_ros[web]' or scripts/run pip install viser"
        ) from error
    logging.basicConfig(level=logging.WARNING, format="vggt3 view: %(message)s")
    logging.getLogger("vggt3_ros").setLevel(logging.INFO)
    serve(folder, arguments.host, arguments.port, most_points, config, camera)
    return 0


def _size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT. Raises ValueError."""
    width, _, height = text.partition("x")
    if not (
        width.isdigit()
        and height.isdigit()
        and 64 <= int(width) <= 8192
        and 64 <= int(height) <= 8192
    ):
        raise ValueError(f"--size must be WIDTHxHEIGHT, 64 to 8192 pixels each, got '{text}'")
    return int(width), int(height)


def show(snapshot: Snapshot, cloud: PointMap, size: tuple[int, int], title: str) -> None:
    """Open a window and block until it is closed. Raises ValueError without a display."""
    import os
    import sys

    import numpy as np
    import open3d as o3d

    no_window = ValueError(
        "cannot open a window (no display?): write a picture with --png FILE, or use `vggt3 export`"
    )
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise no_window  # Open3D would hang

    def lines(
        points: np.ndarray,
        pairs: np.ndarray | Sequence[tuple[int, int]],
        color: tuple[float, float, float],
    ) -> o3d.geometry.LineSet:
        ends = o3d.utility.Vector2iVector(np.reshape(pairs, (-1, 2)).astype(np.int32))
        out = o3d.geometry.LineSet(o3d.utility.Vector3dVector(points), ends)
        out.paint_uniform_color(color)
        return out

    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.around_origin.astype(float)))
    points.colors = o3d.utility.Vector3dVector(cloud.colors / 255.0)
    centres, order = (
        snapshot.T_map_cam[:, :3, 3] - cloud.origin,
        np.argsort(snapshot.stamps_ns, kind="stable"),
    )
    row = {int(id): k for k, id in enumerate(snapshot.keyframe_ids)}
    loops = [
        (row[loop.source_id], row[loop.target_id]) for loop in snapshot.loops if loop.accepted
    ]
    window = o3d.visualization.Visualizer()
    if not window.create_window(f"vggt3 {title}", *size):
        raise no_window
    for geometry in (
        points,
        lines(centres, np.stack([order[:-1], order[1:]], axis=1), (0.9, 0.25, 0.1)),
        lines(centres, loops, (0.2, 0.7, 0.3)),
        o3d.geometry.TriangleMesh.create_coordinate_frame(0.3),
    ):
        window.add_geometry(geometry)
    window.run()
    window.destroy_window()
