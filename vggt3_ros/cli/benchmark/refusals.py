"""vggt3 benchmark refusals: how far apart images of a place and of other places are, where an
image is localized.
"""

from vggt3_ros.cli.benchmark.rows import add_row_arguments, show


def add_parser(subparsers):
    """`subparsers` belongs to `vggt3 benchmark`."""
    parser = subparsers.add_parser(
        "refusals",
        help="the margin of the localizer's thresholds: its own images against those of other places",
        description="Maps of every other keyframe at true poses are asked about the keyframes between and about "
        "all other data sets. Each score is shown from the least to the greatest: of right poses for a "
        "map's own images, of all poses for others'.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="two or more data sets with truth; 'apartment' and 'twins' are rendered",
    )
    add_row_arguments(parser, "localizer.similarity=0.7")
    parser.set_defaults(run=run)


def run(arguments):
    from vggt3_ros.benchmarks.refusals import measure
    from vggt3_ros.cli.benchmark.rows import rendered_or_opened
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.dataset import Options

    if len(arguments.paths) < 2:
        raise ValueError("name two data sets or more: each one's images are strange to the others")
    config = BackendConfig.from_flat(parse_settings(arguments.set))
    # Odometry is not looked at: none need be there.
    sequences = [rendered_or_opened(path, Options(drift=1.0)) for path in arguments.paths]
    if not arguments.json:
        print(
            "| map | images | by | asked | accepted | of these false | agreeing | share | similarity | shown |\n|"
            + "---|" * 10
        )
    with StageBars(arguments.quiet) as bars:
        show(measure(sequences, config, bars), line, arguments, bars)
    return 0


def line(row):
    """One measurement as a row of a Markdown table: of each score the least, the 5th, 50th and
    95th hundredth, the greatest.
    """
    of = lambda name, text: (
        "-" if row[name] is None else " ".join(text.format(value) for value in row[name])
    )
    return (
        f"| {row['map']} | {row['images']} | {row['way']} | {row['asked']} | {row['accepted']} | {row['accepted_false']} | "
        f"{of('agreeing', '{:.0f}')} | {of('share', '{:.2f}')} | {of('similarity', '{:.2f}')} | {of('shown', '{:.2f}')} |"
    )
