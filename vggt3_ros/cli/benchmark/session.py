"""vggt3 benchmark session: measure the memory of the node's processes over a session of thousands
of keyframes.
"""

import argparse

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.node import add_load_arguments, prepared, text
from vggt3_ros.cli.benchmark.rows import add_row_arguments
from vggt3_ros.system import strict_json

# of node, worker and fusion together, at the default settings and 2,000 keyframes of 640x480
LIMIT_MB = 5500
ROUNDS, KEYFRAMES_A_ROOM = 5, 150
QUICK = {
    "loops.pairs_per_keyframe": 2,
    "loops.thorough_per_keyframe": 0,
    "loops.place_candidates": 1,
    "loops.memory_candidates": 1,
}


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "session",
        help="measure the memory of the node's processes over a session of 2,000 keyframes",
        description="Starts the node, sends the keyframes of a walk through a rendered home over DDS (rendered "
        "once, about five per second), refines after every batch, and localizes meanwhile. Fewer "
        "pairs are tried than by default.",
    )
    add_load_arguments(parser)
    parser.add_argument("--keyframes", type=int, default=2000, help="(default %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=100, help="keyframes per refinement (default %(default)s)"
    )
    parser.add_argument(
        "--localize-every",
        type=float,
        default=5.0,
        metavar="S",
        help="seconds between requests (default %(default)g)",
    )
    parser.add_argument(
        "--limit-mb",
        type=float,
        default=LIMIT_MB,
        help="limit for all processes together (default %(default)s)",
    )
    add_row_arguments(parser, "resources.frame_cache_mb=400")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if not (
        2 <= arguments.keyframes <= 10_000
        and arguments.batch >= 1
        and arguments.localize_every >= 0.05
    ):
        raise ValueError(
            "--keyframes must be 2 to 10000, --batch at least 1, --localize-every at least 0.05"
        )
    from functools import partial

    from tqdm import tqdm

    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.datasets.synthetic import home_tours

    quiet = arguments.quiet or None  # None: tqdm checks whether there is a terminal
    settings = QUICK | parse_settings(arguments.set)
    sequence, out = prepared(
        arguments,
        lambda folder: home_tours.load(
            folder / "home",
            partial(tqdm, disable=quiet),
            rooms=-(-arguments.keyframes // KEYFRAMES_A_ROOM),
            rounds=ROUNDS,
            keyframes=arguments.keyframes,
        ),
    )
    from vggt3_ros.benchmarks import session

    try:
        with tqdm(
            total=len(sequence.keyframes), unit="keyframe", desc="session", disable=quiet
        ) as bar:
            result = session.run(
                sequence,
                arguments.batch,
                arguments.localize_every,
                out,
                settings=settings,
                progress=lambda count: bar.update(count - bar.n),
            )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    rows = list(session.table(result, arguments.limit_mb))
    print(strict_json.dumps(result, indent=2) if arguments.json else text(rows))
    return 0 if all(met is not False for *_, met in rows) else 1
