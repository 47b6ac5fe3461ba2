"""vggt3 benchmark peers: this package, its ablations, pycolmap, ORB-SLAM3 and hloc's way, on the
same images.
"""

import argparse
from typing import Any

LIMIT_SECONDS = 1800.0


def add_parser(subparsers: Any) -> None:
    """`subparsers` belongs to `vggt3 benchmark`."""
    from vggt3_ros.cli.dataset import add_sequence_arguments

    parser = subparsers.add_parser(
        "peers",
        help="this package beside pycolmap, ORB-SLAM3 and hloc's localization, on the same images",
        description="Runs each contender in a process of its own, one after the other, and prints a Markdown table for "
        "each data set. docs/benchmarks.md says what each of them is given.",
    )
    add_sequence_arguments(parser, nargs="+", metavar="DIR")
    parser.add_argument(
        "--queries", help="images to localize, as for `vggt3 evaluate`; not known to any map"
    )
    parser.add_argument(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="where a data set has no queries: every N-th keyframe is one, and is not mapped",
    )
    parser.add_argument(
        "--front-end",
        action="store_true",
        help="this package's own front end instead of the odometry; always so where there is none",
    )
    parser.add_argument(
        "--orbslam3",
        metavar="COMMAND",
        help='ORB-SLAM3 in its own environment, as "orbslam3/bin/python scripts/orbslam3-tracker '
        'ORBvoc.txt" (pyorbslam3, GPL-3, is not installed with this package)',
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="CONTENDER", help="run these only"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="CONTENDER", help="leave these out"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=LIMIT_SECONDS,
        metavar="SECONDS",
        help="a contender that takes longer is ended, and its row says so (default %(default).0f)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="write peers.json, peers.md, plots (PNG) and logs there"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a config value of this package, as loops.pairs_per_keyframe=6",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from vggt3_ros.benchmarks.peers.comparison import rows
    from vggt3_ros.benchmarks.peers.contenders import chosen, contenders
    from vggt3_ros.benchmarks.peers.preparing import prepared
    from vggt3_ros.benchmarks.peers.results import Results
    from vggt3_ros.cli.dataset import options
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings

    if not 0 < arguments.time_limit < float("inf"):
        raise ValueError("--time-limit must be a positive number of seconds")
    if arguments.hold_out < 0 or arguments.hold_out == 1:
        raise ValueError("--hold-out must be 2 or more, or 0 for none")
    settings = parse_settings(arguments.set)
    everyone = contenders(settings, arguments.orbslam3)
    running = chosen(everyone, arguments.only, arguments.without)
    results = Results(Path(arguments.out) if arguments.out else None)
    chosen_options = options(arguments, arguments.queries)
    for path in arguments.path:
        with (
            tempfile.TemporaryDirectory(prefix="vggt3_peers_") as temporary,
            StageBars(arguments.quiet) as bars,
        ):
            given, truth = prepared(
                path,
                Path(temporary),
                chosen_options,
                str(settings.get("device", "auto")),
                arguments.front_end,
                arguments.hold_out,
                progress=bars,
            )
            measured = rows(
                given,
                truth,
                running,
                Path(temporary) / "contenders",
                arguments.time_limit,
                bars,
                results.logs,
            )
            for row in measured:
                results.add(row)
            bars.close()
            print(results.text(given.name), flush=True)
    return 0
