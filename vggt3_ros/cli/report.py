"""vggt3 report: a saved map or a store as one HTML page."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "report",
        help="one self-contained HTML page about a saved map or a store",
        description="Paths over the map, loops with the images behind them, seconds and memory, the scene memory, "
        "settings. What only ground truth tells is on the page of `vggt3 evaluate --report`.",
    )
    parser.add_argument(
        "path",
        metavar="STORE",
        help="a folder that save_map wrote, or a node's store (it may be in use)",
    )
    parser.add_argument("--out", default="report.html", metavar="FILE", help="default %(default)s")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from vggt3_ros.cli.saved_map import open_map
    from vggt3_ros.evaluation.report_page.page import write_page
    from vggt3_ros.store import durable

    out = durable.check_target(arguments.out)
    name = Path(arguments.path).resolve().name
    with open_map(arguments.path) as (store, snapshot):
        size = write_page(out, f"Map in {name}", store, snapshot)
    print(f"{out}: {size / 1e6:.1f} MB")
    return 0
