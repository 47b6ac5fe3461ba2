"""vggt3 benchmark refusals: measure how well the localizer's thresholds separate images of the
mapped place from images of other places.
"""

import argparse
from typing import Any

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.rows import add_row_arguments, show


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "refusals",
        help="measure the margin of the localizer's thresholds: images of the map against those of other places",
        description="Maps of every other keyframe at true poses are queried with the keyframes in between and with images "
        "of all other data sets. Prints the range of each score: of right poses for a map's own images, of all poses for "
        "other images.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="two or more data sets with truth; 'apartment' and 'twins' are rendered",
    )
    add_row_arguments(parser, "localizer.similarity=0.7")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from vggt3_ros.benchmarks.refusals import measure
    from vggt3_ros.cli.benchmark.rows import rendered_or_opened
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.dataset import Options

    if len(arguments.paths) < 2:
        raise ValueError("name two or more data sets: each serves as another place for the rest")
    config = BackendConfig.from_flat(parse_settings(arguments.set))
    # Odometry is not used, so none is required.
    sequences = [rendered_or_opened(path, Options(drift=1.0)) for path in arguments.paths]
    if not arguments.json:
        print(
            "| map | images | by | asked | accepted | of these false | agreeing | share | similarity | shown |\n|"
            + "---|" * 10
        )
    with StageBars(arguments.quiet) as bars:
        show(measure(sequences, config, bars), line, arguments, bars)
    return 0


def line(row: dict[str, Any]) -> str:
    """Format one measurement as a row of a Markdown table: of each score the minimum, 5 %, median,
    95 % and maximum.
    """

    def of(name: str, text: str) -> str:
        return "-" if row[name] is None else " ".join(text.format(value) for value in row[name])

    return (
        f"| {row['map']} | {row['images']} | {row['way']} | {row['asked']} | {row['accepted']} | {row['accepted_false']} | "
        f"{of('agreeing', '{:.0f}')} | {of('share', '{:.2f}')} | {of('similarity', '{:.2f}')} | {of('shown', '{:.2f}')} |"
    )
