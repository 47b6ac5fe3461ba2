"""vggt3 benchmark node: measure the node under load, over DDS."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers
from vggt3_ros.system import strict_json

if TYPE_CHECKING:
    from pathlib import Path

    from vggt3_ros.benchmarks.node import TableRow
    from vggt3_ros.datasets.sequence import Sequence


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "node",
        help="measure the node under load: lost keyframes, localize times, age of map->odom, memory, ingest",
        description="Starts the node, sends keyframes over DDS while it refines, sends localize requests, and monitors "
        "map->odom and the memory of its processes; then measures ingest alone.",
    )
    add_load_arguments(parser)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="duration of the load (default %(default)g)"
    )
    parser.add_argument(
        "--rate", type=float, default=10.0, help="keyframes per second (default %(default)g)"
    )
    parser.add_argument(
        "--localize-every",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds between requests (default %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the input and the output folder."""
    parser.add_argument(
        "--input",
        metavar="PATH",
        help="folder or bag whose keyframes are sent; by default a rendered home",
    )
    parser.add_argument(
        "--out",
        default="load_output",
        help="folder for logs and stores; those of the last run are removed",
    )


def prepared(
    arguments: argparse.Namespace, rendered: Callable[[Path], Sequence] | None = None
) -> tuple[Sequence, Path]:
    """Return (Sequence, output folder) after checking that vggt3_ros.ros.load can be imported.
    Raises ValueError otherwise.

    rendered(output folder): returns the Sequence if no input is named; by default the apartment.
    """
    import shutil
    from pathlib import Path

    from vggt3_ros.datasets.dataset import Options, open_dataset
    from vggt3_ros.datasets.synthetic import apartment

    try:
        import vggt3_ros.ros.load.observer  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"this needs ROS 2 and the built messages ({error}): run scripts/setup first"
        ) from error
    out = Path(arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "COLCON_IGNORE").touch()
    for name in (
        "load_store",
        "ingest_store",
        "soak_store",
        "restarts_store",
        "restarts_logs",
        "session_store",
        "maps",
    ):
        if (out / name).is_symlink() or (out / name).exists():
            shutil.rmtree(out / name)
    if rendered is not None and not arguments.input:
        return rendered(out), out
    return open_dataset(arguments.input or apartment.write(out / "apartment"), Options()), out


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if not (
        1 <= arguments.seconds <= 86_400
        and 0.1 <= arguments.rate <= 1000
        and arguments.localize_every >= 0.05
    ):
        raise ValueError(
            "--seconds must be 1 to 86400, --rate 0.1 to 1000, --localize-every at least 0.05"
        )
    sequence, out = prepared(arguments)
    from vggt3_ros.benchmarks import node

    try:
        result = node.run(
            sequence, arguments.seconds, arguments.rate, arguments.localize_every, out
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    rows = node.table(result)
    print(strict_json.dumps(result, indent=2) if arguments.json else text(rows))
    return 0 if all(met is not False for *_, met in rows) else 1


def text(measurements: Iterable[TableRow]) -> str:
    """Format rows (what, measured, target, whether it is met) as a Markdown table."""
    words = {None: "", True: "met", False: "**missed**"}
    rows = [
        ("", "measured", "target", ""),
        *((what, measured, target, words[met]) for what, measured, target, met in measurements),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )
