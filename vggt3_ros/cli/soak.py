"""vggt3 soak: the node for minutes on end, with kills, broken messages and requests; a pass/fail
table.
"""

from vggt3_ros.cli.benchmark.node import add_load_arguments, prepared, text


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "soak",
        help="the node for minutes on end: its worker killed, broken messages, requests; pass or fail",
    )
    parser.add_argument("minutes", type=float)
    add_load_arguments(parser)
    parser.add_argument(
        "--rate",
        type=float,
        default=0.3,
        help="keyframes a second on average (default %(default)g)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that happens at random")
    parser.set_defaults(run=run)


def run(arguments):
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
