"""Shared by the parts of `vggt3 benchmark`: numbers and data sets as arguments, and rows that are
printed as they are measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.datasets.dataset import Options
    from vggt3_ros.datasets.sequence import Sequence


def numbers(text: str, most: int = 10**9) -> list[int]:
    """Parse "32,64,128" to [32, 64, 128], each from 1 to `most`; a type for argparse."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if not 1 <= min(found) <= max(found) <= most:
        raise argparse.ArgumentTypeError(
            f"expected numbers from 1 to {most}, such as 1,4,16, got '{text}'"
        )
    return found


def add_row_arguments(parser: argparse.ArgumentParser, setting: str) -> None:
    """Add --set, with `setting` as its example, --json and --quiet."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"set a config value, such as {setting}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def rendered_or_opened(path: str, options: Options | None = None) -> Sequence:
    """Return the Sequence of a data set with ground truth, or a rendered one: 'apartment', 'twins'
    (two look-alike rooms).

    Raises ValueError if there is no ground truth.
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


def show(
    rows: Iterable[dict[str, Any]],
    line: Callable[[dict[str, Any]], str],
    arguments: argparse.Namespace,
    bars: StageBars,
) -> None:
    """Print each row as line(row) when it is measured, or all of them as JSON at the end. bars:
    open StageBars.
    """
    shown = []
    for row in rows:
        bars.close()
        shown.append(row)
        if not arguments.json:
            print(line(row), flush=True)
    if arguments.json:
        print(json.dumps(shown, indent=2))
