"""Rows of contenders as Markdown."""

from collections.abc import Iterable
from typing import Any

HEAD = (
    "contender",
    "map: seconds (CPU)",
    "peak memory",
    "models",
    "registered",
    "ATE",
    "ATE, scale fitted",
    "localized: median",
    "within 5 cm/5 deg",
    "10 cm/10 deg",
    "a query",
)
NONE = ""


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown of the rows of one data set; what failed says why below it."""
    rows = list(rows)
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    failures = [
        f"- {row['title'].replace('*', '')}: {row['failure']}" for row in rows if "failure" in row
    ]
    return "\n".join(lines + ([""] + failures if failures else []))


def _cells(row: dict[str, Any]) -> list[str]:
    if "failure" in row and "registered" not in row:
        return [row["title"], "failed, see below", *[NONE] * (len(HEAD) - 2)]
    found = row.get("localization", {})
    poses = "given" if row["knows_poses"] else None
    return [
        row["title"],
        f"{row['seconds']:.0f} ({row['cpu_seconds']:.0f})",
        f"{row['peak_memory_mb'] / 1000:.1f} GB",
        str(row["models"]),
        f"{row['registered']:.0%}",
        poses or ("scale free" if not row["metric"] else _cm(row.get("ate_m"))),
        poses or _cm(row.get("ate_scaled_m")),
        _cm(found.get("median_m")),
        _share(found.get("within_5cm_5deg")),
        _share(found.get("within_10cm_10deg")),
        f"{found['seconds_per_query']:.2f} s" if found else NONE,
    ]


def _cm(metres: float | None) -> str:
    if metres is None:
        return NONE
    if metres == float("inf"):
        return "fewer than half localized"
    return f"{100 * metres:.{2 if metres < 0.1 else 1}f} cm"


def _share(share: float | None) -> str:
    return NONE if share is None else f"{share:.0%}"
