"""vggt3 soak: run the node for minutes with kills, malformed messages and requests; print a
pass/fail table.
"""

import argparse

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.node import add_load_arguments, prepared, text


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "soak",
        help="run the node for minutes with worker kills, malformed messages and requests; pass or fail",
    )
    parser.add_argument("minutes", type=float)
    add_load_arguments(parser)
    parser.add_argument(
        "--rate",
        type=float,
        default=0.3,
        help="keyframes per second on average (default %(default)g)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all random events")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if not (0.1 <= arguments.minutes <= 100_000 and 0.1 <= arguments.rate <= 1000):
        raise ValueError("minutes must be 0.1 to 100000, --rate 0.1 to 1000")
    sequence, out = prepared(arguments)
    from vggt3_ros.benchmarks import soak

    try:
        rows = soak.run(sequence, arguments.minutes, arguments.rate, out, arguments.seed)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    print(text(rows))
    return 0 if all(met is not False for *_, met in rows) else 1
