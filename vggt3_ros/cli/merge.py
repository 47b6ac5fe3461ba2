"""vggt3 merge: merge maps of several runs or robots into one."""

import argparse

from vggt3_ros.cli import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "merge",
        help="merge saved maps or stores of several runs or robots",
        description="The first map defines the frame. Each further map is placed in it by localizing its images, "
        "without an initial guess; then all are refined together. Ids and stamps may collide.",
    )
    parser.add_argument(
        "maps",
        nargs="+",
        metavar="MAP",
        help="a folder that save_map wrote, or a node's store; two or more",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="the merged map: a store with its refined snapshot; must not exist",
    )
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

    from vggt3_ros.backend import Backend
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.refinement.uniting import unite
    from vggt3_ros.store import durable

    if len(arguments.maps) < 2:
        raise ValueError("name two or more maps to merge")
    out = Path(arguments.out)
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} exists: name a new folder with --out")
    config = BackendConfig.from_flat(parse_settings(arguments.set))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with StageBars(arguments.quiet) as bars:
            snapshot, merged = unite(
                arguments.maps, partial, lambda store: Backend(store, config), bars
            )
        durable.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for folder, loaded in merged:
        x, y, z = loaded.T_map_loaded[:3, 3]
        print(f"{folder}: {loaded.added} keyframes, origin at {x:.2f} {y:.2f} {z:.2f} m")
    sessions = dict(zip(snapshot.keyframe_ids.tolist(), snapshot.sessions.tolist()))
    across = sum(
        loop.accepted and sessions[loop.source_id] != sessions[loop.target_id]
        for loop in snapshot.loops
    )
    print(
        f"{out}: {len(snapshot)} keyframes, {len(snapshot.cloud)} points, {across} loops between the runs"
    )
    return 0
