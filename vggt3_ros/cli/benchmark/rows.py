"""What several parts of `vggt3 benchmark` share: numbers and data sets as arguments, and rows that
are shown as they are measured.
"""

import argparse
import json


def numbers(text, most=10**9):
    """ "32,64,128" -> [32, 64, 128], each from 1 to `most`; for argparse."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if not 1 <= min(found) <= max(found) <= most:
        raise argparse.ArgumentTypeError(
            f"expected numbers from 1 to {most}, such as 1,4,16, got '{text}'"
        )
    return found


def add_row_arguments(parser, setting):
    """--set, with `setting` as its example, --json and --quiet."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a config value, as {setting}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def rendered_or_opened(path, options=None):
    """The Sequence of a data set with ground truth, or of one that is rendered: 'apartment',
    'twins' (two look-alike rooms). ValueError.
    """
    from vggt3_ros.datasets.dataset import Options, open_dataset
    from vggt3_ros.datasets.synthetic import apartment

    if path == "apartment":
        return apartment.sequence(queries=0)
    if path == "twins":
        return apartment.twin_rooms(
            come_back=True, camera=apartment.CAMERA.scaled(320, 240), ate=0.2
        )
    sequence = open_dataset(path, options or Options())
    if sequence.groundtruth is None:
        raise ValueError(
            f"{path} has no ground truth to score against: name a trajectory file with --groundtruth"
        )
    return sequence


def show(rows, line, arguments, bars):
    """Print each row (dict) as line(row) when it comes, or all of them as JSON at the end. bars:
    StageBars that are open meanwhile.
    """
    shown = []
    for row in rows:
        bars.close()
        shown.append(row)
        if not arguments.json:
            print(line(row), flush=True)
    if arguments.json:
        print(json.dumps(shown, indent=2))
