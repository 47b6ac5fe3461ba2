"""The figures that count, first."""

from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.report_page.elements import Child, element, figure
from vggt3_ros.evaluation.report_page.facts import Facts


def overview(facts: Facts) -> Element:
    """Return tiles: error, localization, map, loops, time."""
    snapshot = facts.snapshot
    tiles = [_tile("keyframes", f"{len(snapshot):,}", f"map {snapshot.generation}")]
    result = facts.evaluation.result if facts.evaluation else {}
    if "corrected" in result:
        before = result["odometry"]["ate_m"]
        tiles.append(
            _tile(
                "trajectory error (ATE)",
                figure(
                    "corrected.ate_m",
                    result["corrected"]["ate_m"],
                    _cm(result["corrected"]["ate_m"]),
                ),
                element("span", "odometry ", figure("odometry.ate_m", before, _cm(before))),
            )
        )
    if "localization" in result:
        share = result["localization"]["within_5cm_5deg"]
        tiles.append(
            _tile(
                "localized within 5 cm, 5 deg",
                figure("localization.within_5cm_5deg", share, f"{share:.0%}"),
                f"{result['localization']['queries']} unseen images",
            )
        )
    error = result.get("map", {}).get("median_error_m")
    tiles.append(
        _tile("points in the map", f"{len(snapshot.cloud):,}", "")
        if error is None
        else _tile(
            "map error (median)",
            figure("map.median_error_m", error, _cm(error)),
            f"{len(snapshot.cloud):,} points",
        )
    )
    accepted = sum(loop.accepted for loop in snapshot.loops)
    tiles.append(
        _tile("loops accepted", f"{accepted:,}", f"{len(snapshot.loops) - accepted:,} rejected")
    )
    total = snapshot.seconds.get("total")
    if isinstance(total, (int, float)) and np.isfinite(total):
        peak = snapshot.report.get("peak_memory_mb")
        used = f"peak {peak:,.0f} MB" if isinstance(peak, (int, float)) else ""
        tiles.append(_tile("refined in", f"{total:.1f} s", used))
    warnings = [
        element("p", text, class_="warning") for text in _texts(snapshot.report.get("empty"))
    ]
    return element(
        "header",
        element("h1", facts.title),
        *warnings,
        element("div", *tiles, class_="tiles"),
    )


def _tile(title: str, value: Child, beside: Child) -> Element:
    return element(
        "div",
        element("div", title, class_="title"),
        element("div", value, class_="value"),
        element("div", beside, class_="beside"),
        class_="tile",
    )


def _texts(values: object) -> list[str]:
    """Return the texts of a list that a file may have held."""
    return [text for text in values if isinstance(text, str)] if isinstance(values, list) else []


def _cm(metres: float) -> str:
    return f"{100 * metres:.2f} cm"
