"""The state of a map in a table of HTML: what a robot's operator asks first."""

from collections.abc import Iterable
from html import escape
from time import localtime, strftime

import numpy as np

from vggt3_ros.web.watching import Seen


def status_html(seen: Seen, shown: int) -> str:
    """A table; shown: points on the page."""
    snapshot = seen.newest
    if snapshot is None or snapshot.sessions is None:
        return paragraph(seen.problem)
    report, accepted = snapshot.report, sum(loop.accepted for loop in snapshot.loops)
    rows = [
        ("Keyframes", f"{seen.stored} stored, {len(snapshot)} refined"),
        (
            f"Refinement {snapshot.generation}",
            f"{strftime('%H:%M:%S', localtime(seen.written))}, took "
            f"{sum(s for stage, s in snapshot.seconds.items() if stage != 'total'):.1f} s",
        ),
        ("Loops", f"{accepted} accepted, {len(snapshot.loops) - accepted} rejected"),
        ("Points", f"{shown:,} shown of {len(snapshot.cloud):,}"),
        ("Path", f"{_length(snapshot.T_map_cam, snapshot.stamps_ns, snapshot.sessions):.1f} m"),
    ]
    sessions = len(np.unique(snapshot.sessions))
    if sessions > 1:
        rows.append(("Sessions", str(sessions)))
    if report.get("slots"):
        error = report.get("memory_error_m", float("nan"))
        rows.append(
            (
                "Scene memory",
                f"{report['slots']:,} slots"
                + (f", error {100 * error:.1f} cm" if np.isfinite(error) else ""),
            )
        )
    if "peak_memory_mb" in report:
        rows.append(("RAM, peak", f"{report['peak_memory_mb']:,.0f} MB"))
    warnings = [paragraph(str(text)) for text in report.get("empty", ())]
    return table(rows) + "".join(warnings)


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, escaped."""
    cells = "".join(
        f'<tr><td style="opacity:.65;padding:1px 10px 1px 0;white-space:nowrap">{escape(name)}</td>'
        f"<td>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return (
        f'<table style="font-size:12px;margin:2px 12px 6px 12px;border-spacing:0">{cells}</table>'
    )


def paragraph(text: str, color: str = "inherit") -> str:
    """One, escaped."""
    return (
        f'<div style="font-size:12px;margin:2px 12px 8px 12px;color:{color}">{escape(text)}</div>'
    )


def _length(T_map_cam: np.ndarray, stamps_ns: np.ndarray, sessions: np.ndarray) -> float:
    """Metres along the corrected path, none from one session to the next."""
    order = np.lexsort((stamps_ns, sessions))
    steps = np.linalg.norm(np.diff(T_map_cam[order, :3, 3], axis=0), axis=1)
    return float(steps[np.diff(sessions[order]) == 0].sum())
