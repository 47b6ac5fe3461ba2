"""vggt3 benchmark growth: measure the cost of ten more keyframes in a large map."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.rows import add_row_arguments, numbers
from vggt3_ros.system import strict_json

if TYPE_CHECKING:
    from pathlib import Path

ROUND = 123  # keyframes in one walk through all rooms

_DESCRIPTION = (
    "Walks through the rendered apartment repeatedly and refines on the way. At each number of keyframes a few more are added and "
    "refined with the settings of the back end, several times. Prints the median seconds of each stage, and the ratio between the "
    "largest and the smallest map, without the solve, which is over all keyframes. In between, fewer pairs are tried. Images have "
    "320x240 pixels and are rendered once, about 20 per second."
)


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "growth",
        help="measure the cost of ten more keyframes in a large map",
        description=_DESCRIPTION,
    )
    parser.add_argument(
        "--keyframes",
        type=numbers,
        default=[100, 400, 1600],
        metavar="N,N,...",
        help="default 100,400,1600",
    )
    parser.add_argument(
        "--add",
        type=int,
        default=10,
        metavar="K",
        help="keyframes added at a time (default %(default)s)",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        metavar="R",
        help="number of repetitions, of which the median counts (default %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=100,
        metavar="B",
        help="keyframes per refinement in between (default %(default)s)",
    )
    parser.add_argument(
        "--folder",
        help="keep rendered images and maps here, so that an interrupted run can resume; temporary by default",
    )
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: measure CPU time, for a machine under other load",
    )
    add_row_arguments(parser, "memory.density=100")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    import tempfile
    from itertools import pairwise
    from pathlib import Path

    from vggt3_ros.benchmarks.growth import cpu_seconds, measure_growth
    from vggt3_ros.cli.progress import StageBars
    from vggt3_ros.cli.settings import parse_settings
    from vggt3_ros.config import BackendConfig
    from vggt3_ros.datasets.synthetic import apartment
    from vggt3_ros.store.keyframes import KeyframeStore

    counts, more = arguments.keyframes, arguments.add * arguments.repeat
    if min(arguments.add, arguments.repeat, arguments.batch) < 1:
        raise ValueError("--add, --repeat and --batch must be at least 1")
    if any(larger < smaller + more for smaller, larger in pairwise(counts)):
        raise ValueError(f"--keyframes must increase by at least {more}, the number added at each")
    settings = parse_settings(arguments.set)
    quick = {
        "loops.pairs_per_keyframe": 2,
        "loops.thorough_per_keyframe": 0,
        "loops.place_candidates": 0,
        "loops.memory_candidates": 1,
    }
    setting = {
        name: getattr(arguments, name) for name in ("keyframes", "add", "batch", "repeat", "clock")
    } | settings
    with (
        tempfile.TemporaryDirectory(prefix="vggt3_") as temporary,
        StageBars(arguments.quiet or arguments.json) as bars,
    ):
        folder = Path(arguments.folder or temporary)
        needed = counts[-1] + more
        rendered, walk = (
            folder / f"apartment-{needed}",
            {"keyframes": needed, "camera": apartment.CAMERA.scaled(320, 240)},
        )
        if needed < ROUND:
            walk["ate"] = apartment.ATE * needed / ROUND  # drift grows with the distance travelled
        sequence = apartment.load(rendered, queries=0, **walk)
        run_folder = _of_this_setting(folder / "run", setting)
        with KeyframeStore(run_folder / "store") as store:
            result = measure_growth(
                sequence,
                store,
                BackendConfig.from_flat(quick | settings),
                BackendConfig.from_flat(settings),
                counts,
                arguments.add,
                arguments.repeat,
                arguments.batch,
                apartment.surfaces_of(rendered),
                run_folder / "runs.json",
                bars,
                cpu_seconds if arguments.clock == "cpu" else time.perf_counter,
            )
    print(strict_json.dumps(result, indent=2) if arguments.json else table(result))
    return 0


def _of_this_setting(folder: Path, setting: dict[str, Any]) -> Path:
    """Return the folder of a new run, or of an interrupted one with the same setting.

    Raises ValueError if it holds a run with another setting.
    """
    stamp = folder / "setting.json"
    if stamp.exists() and json.loads(stamp.read_text()) != setting:
        raise ValueError(
            f"{folder} holds a run with another setting: remove it, or name another --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(json.dumps(setting))
    return folder


def table(result: dict[str, Any]) -> str:
    """Format the figures of benchmarks.growth.measure_growth as text."""
    rows = result["rows"]
    stages = [name for name in rows[0]["seconds"] if name != "total"]
    lines = [
        f"{'keyframes':>10} "
        + " ".join(f"{name.replace('_', ' '):>13}" for name in [*stages, "memory MB"])
    ]
    for row in rows:
        seconds = " ".join(f"{row['seconds'][name]:13.2f}" for name in stages)
        lines.append(f"{row['keyframes']:>10} {seconds} {row['peak_memory_mb']:13.0f}")
    lines.append(f"{'ratio':>10} " + " ".join(f"{result['ratio'][name]:13.2f}" for name in stages))
    lines.append(
        f"seconds for {result['add']} more keyframes, median of {result['repeat']}; at the end: ATE {100 * result['ate_m']:.2f} "
        f"cm, map median error {100 * result['map_median_error_m']:.2f} cm, {rows[-1]['points']} points"
    )
    return "\n".join(lines)
