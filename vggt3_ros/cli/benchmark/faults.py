"""vggt3 benchmark faults: measure how well loop closing repairs a front end that freezes, jumps or
errs in scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.rows import add_row_arguments, rendered_or_opened

if TYPE_CHECKING:
    from vggt3_ros.benchmarks.faults import Row


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    from vggt3_ros.cli.dataset import add_sequence_arguments

    parser = subparsers.add_parser(
        "faults",
        help="inject odometry faults and false loops into a data set",
        description="Prints a Markdown table, or JSON: error before and after, compared with the same run without the "
        "fault. PATH may be 'apartment' or 'twins' (two look-alike rooms), which are rendered. The exit "
        "status is 1 if an error exceeds 1.3 times that without the fault, or if a false loop is accepted.",
    )
    add_sequence_arguments(parser)
    parser.add_argument(
        "--no-depth",
        action="store_true",
        help="ignore depth; scored after Sim(3) alignment; takes minutes per run",
    )
    parser.add_argument(
        "--sessions",
        action="store_true",
        help="make the second half a session of its own, to be located in the map of the first",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME",
        help="only this fault, such as 'frozen for 3'; all by default",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=2,
        help="places and directions of each fault (default %(default)s)",
    )
    parser.add_argument(
        "--false-loops",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of loops made false (default %(default)s)",
    )
    add_row_arguments(parser, "loops.pairs_per_keyframe=6")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    import json
    from dataclasses import asdict

    from tqdm import tqdm

    from vggt3_ros.benchmarks.faults import FAULTS, Bench
    from vggt3_ros.cli.dataset import options
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig

    if arguments.seeds < 1 or not 0 <= arguments.false_loops < 1:
        raise ValueError("--seeds must be 1 or more, --false-loops 0 to below 1")
    if arguments.sessions and arguments.no_depth:
        raise ValueError(
            "--sessions and --no-depth exclude each other: a scene memory needs depth"
        )
    faults = arguments.fault or list(FAULTS)
    if not set(faults) <= set(FAULTS):
        raise ValueError(f"--fault must be one of: {', '.join(FAULTS)}")
    sequence = rendered_or_opened(arguments.path, options(arguments))
    if len(sequence) < 28:
        raise ValueError(
            f"{arguments.path} has {len(sequence)} keyframes: at least 28 are required"
        )
    with tqdm(total=len(sequence), desc="features", disable=arguments.quiet or None) as bar:
        bench = Bench(
            sequence,
            BackendConfig.from_flat(parse_settings(arguments.set)),
            lambda _: bar.update(),
            without_depth=arguments.no_depth,
            sessions=arguments.sessions,
        )
    shares = sorted({0.0, arguments.false_loops})
    runs = len(faults) * arguments.seeds * len(shares)
    rows = list(
        tqdm(
            bench.rows(faults, range(arguments.seeds), shares),
            total=runs,
            desc="faults",
            disable=arguments.quiet or None,
        )
    )
    if arguments.json:
        print(json.dumps([dict(asdict(row), passes=row.passes) for row in rows], indent=2))
    else:
        print(table(rows))
    return 0 if all(row.passes for row in rows) else 1


def table(rows: Sequence[Row]) -> str:
    """Format the rows as Markdown."""
    lines = [
        "| fault | seed | false loops | odometry | without the fault | corrected | loops, false | reported |",
        "|" + "---|" * 8,
    ]
    lines += [
        f"| {row.fault} | {row.seed} | {row.false_share:.0%} | {100 * row.odometry_m:.1f} cm | {100 * row.unharmed_m:.2f} cm | "
        f"{100 * row.corrected_m:.2f} cm{'' if row.passes else ' **missed**'} | {row.accepted}, {row.false} | {'; '.join(row.breaks)} |"
        for row in rows
    ]
    lines.append(
        f"\n{sum(row.passes for row in rows)} of {len(rows)} within 1.3 times the error without the fault, no false loop accepted"
    )
    return "\n".join(lines)
