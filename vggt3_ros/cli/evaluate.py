"""vggt3 evaluate: refine a recorded sequence and score it against its ground truth, without ROS."""

import argparse

from vggt3_ros.cli import SubParsers


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    from vggt3_ros.cli.dataset import add_sequence_arguments

    parser = subparsers.add_parser(
        "evaluate", help="refine a recorded data set and score it against its ground truth"
    )
    add_sequence_arguments(parser)
    parser.add_argument(
        "--queries",
        help="images to localize: a list like queries.txt (the default in TUM folders) with "
        "<name>_groundtruth.txt, or another data set of the same scene and camera",
    )
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--plot", help="plot the trajectories to this PNG file")
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write one self-contained HTML page here: paths over the map, errors, loops with their images, "
        "localization, the worst queries, the scene memory, cost",
    )
    parser.add_argument(
        "--fixed-poses",
        action="store_true",
        help="trust the given poses: map and localize without correcting them",
    )
    parser.add_argument(
        "--no-depth",
        action="store_true",
        help="ignore the measured depth, as with a camera without depth",
    )
    parser.add_argument(
        "--grow",
        type=int,
        default=0,
        metavar="K",
        help="refine without the last K keyframes first, then add them, to measure the cost of growing a map",
    )
    parser.add_argument(
        "--store",
        help="keep keyframes and snapshots in this folder (must not hold any yet); temporary by default",
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
    import tempfile
    from pathlib import Path

    from vggt3_ros.cli.dataset import options
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.dataset import open_dataset
    from vggt3_ros.datasets.synthetic.apartment import surfaces_of
    from vggt3_ros.evaluation.report import plot_trajectories, table, write_json
    from vggt3_ros.evaluation.report_page.page import write_page
    from vggt3_ros.evaluation.sequence import evaluate_sequence
    from vggt3_ros.store import durable
    from vggt3_ros.store.keyframes import KeyframeStore

    settings = parse_settings(arguments.set)
    if arguments.fixed_poses:
        settings["fixed_poses"] = True
    config = BackendConfig.from_flat(settings)
    sequence = open_dataset(arguments.path, options(arguments, arguments.queries))
    if sequence.groundtruth is None:
        raise ValueError(
            f"{arguments.path} has no ground truth to score against: name a trajectory file with --groundtruth"
        )
    if not 0 <= arguments.grow < len(sequence):
        raise ValueError(
            f"--grow must be 0 to {len(sequence) - 1} keyframes, got {arguments.grow}"
        )
    for path in filter(None, (arguments.report, arguments.out, arguments.plot)):
        durable.check_target(path)
    with (
        tempfile.TemporaryDirectory(prefix="vggt3_") as temporary,
        StageBars(arguments.quiet) as bars,
    ):
        folder = Path(arguments.store or temporary)
        if any(folder.glob("keyframes.db")):
            raise ValueError(f"{folder} already holds keyframes: name a new folder with --store")
        evaluation = evaluate_sequence(
            sequence,
            folder,
            config,
            bars,
            arguments.grow,
            surfaces_of(arguments.path),
            not arguments.no_depth,
        )
        bars.close()
        print(table(evaluation.result))
        if arguments.out:
            write_json(evaluation.result, arguments.out)
        if arguments.plot:
            plot_trajectories(
                arguments.plot,
                evaluation.trajectories,
                f"{sequence.name}: ATE {100 * evaluation.result['corrected']['ate_m']:.1f} cm",
            )
        if arguments.report:
            with KeyframeStore(folder, read_only=True) as store:
                write_page(arguments.report, sequence.name, store, evaluation.snapshot, evaluation)
    return 0
