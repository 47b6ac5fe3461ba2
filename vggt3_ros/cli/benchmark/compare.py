"""vggt3 benchmark compare: two runs of `vggt3 benchmark all`, figure by figure."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vggt3_ros.benchmarks.suite.comparison import Row


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`subparsers` belongs to `vggt3 benchmark`."""
    parser = subparsers.add_parser(
        "compare",
        help="ratios of two runs of `vggt3 benchmark all`, and what got worse",
        description="Prints the ratio b / a of each figure. A figure is marked worse where it differs by more than noise: "
        "15 %% of timings, 5 %% of memory and errors, the range of repeated runs where there are any, the 95 %% interval of "
        "a share; of counts that should be 0, none. Timings are judged only where both machines are the same and "
        "neither was busy.",
    )
    parser.add_argument("a", metavar="A.json", help="the run to compare with")
    parser.add_argument("b", metavar="B.json", help="the run that is judged")
    parser.add_argument(
        "--fail-over",
        type=float,
        metavar="RATIO",
        help="exit status 1 where a figure is worse by more than so many times, such as 1.2, or was lost",
    )
    parser.add_argument(
        "--changed", action="store_true", help="only figures that got worse or better"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from vggt3_ros.benchmarks.suite.comparison import BETTER, LOST, WORSE, compare, load

    if arguments.fail_over is not None and not arguments.fail_over >= 1:
        raise ValueError(f"--fail-over must be 1 or more, got {arguments.fail_over}")
    rows = compare(load(arguments.a), load(arguments.b))
    shown = (
        [row for row in rows if row.verdict in (WORSE, BETTER, LOST)]
        if arguments.changed
        else rows
    )
    print(table(shown))
    counts = {
        verdict: sum(row.verdict == verdict for row in rows) for verdict in (WORSE, LOST, BETTER)
    }
    print(
        f"\n{counts[WORSE]} of {len(rows)} worse beyond noise, {counts[LOST]} lost, {counts[BETTER]} better"
    )
    if arguments.fail_over is None:
        return 0
    failing = [row for row in rows if row.fails(arguments.fail_over)]
    for row in failing:
        print(f"fails: {row.part}, {row.name or row.why}")
    return 1 if failing else 0


def table(rows: "list[Row]") -> str:
    """Return comparison.Rows as Markdown."""
    lines = ["| part | figure | a | b | b / a | |", "|" + "---|" * 6]
    for row in rows:
        verdict = f"**{row.verdict}**" if row.verdict in ("worse", "lost") else row.verdict
        told = f"{verdict}: {row.why}" if row.why and not row.name else verdict
        ratio = "" if row.ratio != row.ratio else f"{row.ratio:.3f}"
        cells = [row.part, row.name, _value(row.a, row.unit), _value(row.b, row.unit), ratio, told]
        lines.append(
            "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |"
        )
    reasons = dict.fromkeys(
        (row.part, row.verdict, row.why) for row in rows if row.why and row.name
    )
    if reasons:
        lines.append("")
    lines += [f"{part}: {verdict}: {why}" for part, verdict, why in reasons]
    return "\n".join(lines)


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "share":
        return f"{value:.1%}"
    if unit == "m":
        return f"{100 * value:.2f} cm"
    return f"{value:.4g}" + (f" {unit}" if unit not in ("1", "times") else "")
