"""vggt3 benchmark memory: measure the contribution of each part of the scene memory."""

import argparse
from typing import Any

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.rows import add_row_arguments, show


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "memory",
        help="compare the scene memory in closed form, with Adam, with a residual head, and the former MLP",
        description="Maps at true poses; localization by each memory alone, without keyframes.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="data sets with truth and queries, such as demo_output/apartment",
    )
    parser.add_argument(
        "--steps", type=int, default=300, help="optimizer steps on the slots (default %(default)s)"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("adam", "head", "mlp"),
        help="leave a kind out",
    )
    add_row_arguments(parser, "memory.density=100")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from vggt3_ros.benchmarks.ablation import ADAM, HEAD, KINDS, MLP, measure
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.dataset import Options, open_dataset

    if arguments.steps < 1:
        raise ValueError("--steps must be 1 or more")
    config = BackendConfig.from_flat(parse_settings(arguments.set))
    out = {"adam": ADAM, "head": HEAD, "mlp": MLP}
    kinds = tuple(kind for kind in KINDS if kind not in [out[name] for name in arguments.without])
    sequences = [open_dataset(path, Options()) for path in arguments.paths]
    for path, sequence in zip(arguments.paths, sequences):
        if sequence.groundtruth is None or not sequence.queries:
            raise ValueError(f"{path} has no ground truth, or no queries to localize")
    with StageBars(arguments.quiet) as bars:
        show(
            (
                row
                for sequence in sequences
                for row in measure(sequence, config, arguments.steps, kinds, bars)
            ),
            line,
            arguments,
            bars,
        )
    return 0


def line(row: dict[str, Any]) -> str:
    """Format one measurement as text."""
    return (
        f"{row['sequence']:12} {row['kind']:16} {row['memory_mb']:5.1f} MB in {row['seconds']:6.1f} s: median {100 * row['median_m']:6.2f} cm, "
        f"{row['median_deg']:5.2f} deg, {row['within_5cm_5deg']:4.0%} within 5 cm/5 deg, {row['within_10cm_10deg']:4.0%} within 10 cm/10 deg, "
        f"{row['seconds_per_query']:.2f} s per query"
    )
