"""vggt3 benchmark all: every benchmark in one go, as JSON to compare with."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vggt3_ros.benchmarks.suite.running import Suite


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`subparsers` belongs to `vggt3 benchmark`."""
    parser = subparsers.add_parser(
        "all",
        help="every benchmark in one go, and evaluate, as JSON for `vggt3 benchmark compare`",
        description="Runs evaluate, network, memory, refusals, faults, rooms, growth, node, restarts and session one after "
        "the other, each in a process of its own, on the rendered apartment and on DIR. The file is rewritten after each; "
        "a part that fails is in it with its error. Hours; with --quick, smaller sizes: minutes. Exit status 1 when a part "
        "failed or missed a target.",
    )
    parser.add_argument(
        "data",
        nargs="*",
        metavar="DIR",
        help="more data sets with odometry and truth, named by their folders",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the JSON file")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PART",
        help="these parts alone, by the start of their names, such as evaluate or 'faults apartment'",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        help="runs of each part: the median counts, the range tells the noise (default %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=180.0,
        help="a part that takes longer is ended (default %(default)g)",
    )
    parser.add_argument(
        "--folder", help="keeps the rendered apartment between runs; temporary by default"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import tempfile

    from vggt3_ros.benchmarks.suite.parts import parts
    from vggt3_ros.benchmarks.suite.running import FAILED, MISSED, Suite, run_all
    from vggt3_ros.store import durable

    if arguments.repeat < 1 or not 0 < arguments.minutes < 100_000:
        raise ValueError("--repeat must be 1 or more, --minutes above 0")
    out, data = durable.check_target(arguments.out), _named(arguments.data)
    with tempfile.TemporaryDirectory(prefix="vggt3_") as temporary:
        folder = Path(arguments.folder or temporary)
        suite = Suite(out, arguments.quick)
        rendered = _rendered(folder, arguments.quick, suite)
        chosen = [
            part
            for part in parts(rendered | data, arguments.quick)
            if not arguments.only or part.name.startswith(tuple(arguments.only))
        ]
        if not chosen:
            raise ValueError(f"--only {' '.join(arguments.only)}: no part's name begins so")
        run_all(suite, chosen, arguments.repeat, arguments.minutes, _say)
    statuses = [entry["status"] for entry in suite.record["parts"].values()]
    print(
        f"{out}: {len(statuses)} parts, {statuses.count(FAILED)} failed, {statuses.count(MISSED)} missed a target"
    )
    return 1 if FAILED in statuses or MISSED in statuses else 0


def _say(text: str) -> None:
    print(text, flush=True)


def _named(paths: list[str]) -> dict[str, Path]:
    """Return {name of the folder: folder}; ValueError where one is missing or two share a name."""
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        name = path.resolve().name
        if not path.exists():
            raise ValueError(f"{path} does not exist")
        if name in found or name == "apartment":
            raise ValueError(f"two data sets are called {name}: rename a folder")
        found[name] = path.resolve()
    return found


def _rendered(folder: Path, quick: bool, suite: "Suite") -> dict[str, Path]:
    """Return {"apartment": its folder}; nothing, and the reason in the file, where it cannot be
    rendered.
    """
    from functools import partial

    from tqdm import tqdm

    from vggt3_ros.benchmarks.suite.parts import QUICK_KEYFRAMES, QUICK_QUERIES
    from vggt3_ros.datasets.synthetic import apartment

    drift = apartment.ATE * QUICK_KEYFRAMES / 123  # odometry drifts with the way
    options = (
        {"keyframes": QUICK_KEYFRAMES, "queries": QUICK_QUERIES, "ate": drift} if quick else {}
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        progress = partial(tqdm, disable=None)
        return {"apartment": apartment.write(folder / "apartment", progress, **options)}
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        suite.failed("rendering the apartment", error)
        return {}
