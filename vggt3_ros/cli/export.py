"""vggt3 export: write a saved map or a store to files for other tools."""

import argparse
from collections.abc import Callable, Iterable
from typing import TypeVar

from vggt3_ros.cli import SubParsers

T = TypeVar("T")


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "export",
        help="write a saved map or a store as TUM trajectory, PLY, COLMAP, glTF or rerun file",
    )
    parser.add_argument(
        "path", help="a folder that save_map wrote, or a node's store (it may be in use)"
    )
    parser.add_argument(
        "--tum", metavar="FILE", help="corrected trajectory: stamp tx ty tz qx qy qz qw"
    )
    parser.add_argument("--ply", metavar="FILE", help="points with colour and confidence")
    parser.add_argument(
        "--colmap", metavar="DIR", help="undistorted images and a COLMAP text model"
    )
    parser.add_argument(
        "--gltf", metavar="FILE", help="points, trajectory and cameras as .glb or .gltf"
    )
    parser.add_argument(
        "--rerun", metavar="FILE", help="points, trajectory and images as .rrd (needs rerun-sdk)"
    )
    parser.add_argument("--max-points", type=int, metavar="N", help="thin the points to at most N")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from functools import partial

    from tqdm import tqdm

    from vggt3_ros.cli.saved_map import open_map
    from vggt3_ros.datasets.tum_files import write_trajectory_tum
    from vggt3_ros.surface.export import write_ply

    if not any((arguments.tum, arguments.ply, arguments.colmap, arguments.gltf, arguments.rerun)):
        raise ValueError(
            "nothing to write: name a file with --tum, --ply, --colmap, --gltf or --rerun"
        )
    if arguments.max_points is not None and arguments.max_points < 1:
        raise ValueError(f"--max-points must be 1 or more, got {arguments.max_points}")

    def bar(name: str) -> Callable[[list[T]], Iterable[T]]:
        return partial(tqdm, desc=name, unit="keyframe", disable=arguments.quiet or None)

    with open_map(arguments.path) as (store, snapshot):
        cloud = snapshot.cloud.thinned(arguments.max_points or len(snapshot.cloud))
        if arguments.tum:
            order = snapshot.stamps_ns.argsort(kind="stable")
            write_trajectory_tum(
                arguments.tum, snapshot.stamps_ns[order], snapshot.T_map_cam[order], "T_map_cam"
            )
        if arguments.ply:
            write_ply(arguments.ply, cloud)
        if arguments.gltf:
            from vggt3_ros.surface.export.gltf import write_gltf

            write_gltf(
                arguments.gltf, snapshot, cloud, store.camera(int(snapshot.keyframe_ids[0]))
            )
        if arguments.colmap:
            from vggt3_ros.surface.export.colmap import write_colmap

            write_colmap(arguments.colmap, store, snapshot, cloud, bar("COLMAP"))
        if arguments.rerun:
            from vggt3_ros.surface.export.rerun_file import write_rerun

            write_rerun(arguments.rerun, store, snapshot, cloud, bar("rerun"))
    print(f"map {snapshot.generation}: {len(snapshot)} keyframes, {len(cloud)} points")
    return 0
