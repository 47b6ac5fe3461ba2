"""vggt3 benchmark restarts: the node killed again and again, and what it serves when it comes
back.
"""

from vggt3_ros.cli.benchmark.node import add_load_arguments, prepared, text
from vggt3_ros.system import strict_json

QUICK = {"map.voxel_size": 0.05}  # many refinements in the time of one


def add_parser(subparsers):
    """`subparsers` belongs to `vggt3 benchmark`."""
    parser = subparsers.add_parser(
        "restarts",
        help="the node, SIGKILLed again and again: keyframes lost, what a restarted one serves",
        description="Starts the node, sends keyframes over DDS while it refines, kills it with SIGKILL at a "
        "random moment, starts it again, and compares what it serves before any new refinement "
        "with its last snapshot, and its keyframes with those that it had acknowledged.",
    )
    add_load_arguments(parser)
    parser.add_argument("--kills", type=int, default=50, help="(default %(default)g)")
    parser.add_argument(
        "--rate", type=float, default=0.5, help="keyframes a second (default %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments):
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
