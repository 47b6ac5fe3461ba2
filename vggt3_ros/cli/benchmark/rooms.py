"""vggt3 benchmark rooms: measure localization against the size of the map."""

import argparse
from functools import partial
from typing import Any

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.rows import add_row_arguments, numbers, show

MOST = 64  # rooms


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "rooms",
        help="measure localization in rendered homes of 1 to 16 rooms, by the scene memory alone and verified",
        description="Maps at true poses. Reuses the contents of --folder, so that an interrupted run can resume.",
    )
    parser.add_argument(
        "--rooms",
        type=partial(numbers, most=MOST),
        default=[1, 4, 16],
        help="numbers of rooms (default 1,4,16)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="rounds through each room, about 40 keyframes each (default %(default)s)",
    )
    parser.add_argument(
        "--queries", type=int, default=4, help="unseen images for each room (default %(default)s)"
    )
    parser.add_argument(
        "--folder", help="keeps the rendered home, features and memories; temporary by default"
    )
    add_row_arguments(parser, "memory.density=100")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    import tempfile
    from pathlib import Path

    from tqdm import tqdm

    from vggt3_ros.benchmarks.rooms import measure
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.datasets.synthetic import home_tours

    if arguments.queries < 1:
        raise ValueError("--queries must be 1 or more")
    settings, counts = parse_settings(arguments.set), sorted(set(arguments.rooms))
    with (
        tempfile.TemporaryDirectory(prefix="vggt3_") as temporary,
        StageBars(arguments.quiet) as bars,
    ):
        folder = Path(arguments.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sequence = home_tours.load(
            folder / "home",
            partial(tqdm, disable=arguments.quiet or None),
            rooms=counts[-1],
            rounds=arguments.rounds,
            queries_per_room=arguments.queries,
        )
        show(measure(sequence, folder, counts, settings, bars), line, arguments, bars)
    return 0


def line(row: dict[str, Any]) -> str:
    """Format one measurement as text."""

    def score(name: str) -> str:
        found = row[name]
        return (
            f"median {100 * found['median_m']:6.1f} cm, {found['within_5cm_5deg']:4.0%} within 5 cm/5 deg, {found['within_10cm_10deg']:4.0%} "
            f"within 10 cm/10 deg, {found['seconds_per_query']:.2f} s"
        )

    return (
        f"{row['rooms']:2} rooms, {row['keyframes']:4} keyframes, {row['slots']:6} slots ({row['memory_mb']:.1f} MB in {row['memory_s']:.1f} s): "
        f"memory alone {score('localization_memory')}; verified {score('localization')}"
    )
