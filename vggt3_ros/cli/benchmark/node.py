"""vggt3 benchmark node: the node under load, over DDS."""

from vggt3_ros.system import strict_json


def add_parser(subparsers):
    """`subparsers` belongs to `vggt3 benchmark`."""
    parser = subparsers.add_parser(
        "node",
        help="the node under load: keyframes lost, localize times, age of map->odom, memory, ingest",
        description="Starts the node, sends keyframes over DDS while it refines, asks it to localize images, "
        "and watches map->odom and the memory of its processes; then measures ingest alone.",
    )
    add_load_arguments(parser)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="length of the load (default %(default)g)"
    )
    parser.add_argument(
        "--rate", type=float, default=10.0, help="keyframes a second (default %(default)g)"
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


def add_load_arguments(parser):
    parser.add_argument(
        "--input",
        metavar="PATH",
        help="folder or bag whose keyframes are sent; by default a rendered home",
    )
    parser.add_argument(
        "--out",
        default="load_output",
        help="folder of logs and stores, emptied of those of the last run",
    )


def prepared(arguments, rendered=None):
    """(Sequence, output folder), and vggt3_ros.ros.load importable. ValueError otherwise.

    rendered(output folder) -> the Sequence where no other input is named; by default the
    apartment.
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


def run(arguments):
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


def text(rows):
    """Rows of (what, measured, target, whether it is met) as a table in Markdown."""
    words = {None: "", True: "met", False: "**missed**"}
    rows = [
        ("", "measured", "target", ""),
        *((what, measured, target, words[met]) for what, measured, target, met in rows),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )
