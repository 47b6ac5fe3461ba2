"""vggt3 benchmark restarts: kill the node repeatedly and check what it serves after each restart."""

import argparse

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.node import add_load_arguments, prepared, text
from vggt3_ros.system import strict_json

QUICK = {"map.voxel_size": 0.05}  # for faster refinements


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "restarts",
        help="kill the node repeatedly (SIGKILL): lost keyframes, output after a restart",
        description="Starts the node, sends keyframes over DDS while it refines, kills it with SIGKILL at a "
        "random moment, restarts it, and compares its output before any new refinement with its last "
        "snapshot, and its keyframes with those that it had acknowledged.",
    )
    add_load_arguments(parser)
    parser.add_argument("--kills", type=int, default=50, help="(default %(default)g)")
    parser.add_argument(
        "--rate", type=float, default=0.5, help="keyframes per second (default %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if not (1 <= arguments.kills <= 100_000 and 0.1 <= arguments.rate <= 1000):
        raise ValueError("--kills must be 1 to 100000, --rate 0.1 to 1000")
    sequence, out = prepared(arguments)
    from vggt3_ros.benchmarks import restarts

    try:
        lives = restarts.run(
            sequence, arguments.kills, arguments.rate, out, arguments.seed, settings=QUICK
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    rows = list(restarts.table(lives))
    print(strict_json.dumps(restarts.as_dict(lives), indent=2) if arguments.json else text(rows))
    return 0 if all(met is not False for *_, met in rows) else 1
