"""The figures that each benchmark's JSON holds: value, unit, and which way is better."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

LOWER, HIGHER = "lower", "higher"
# units of what depends on the machine and its load
TIMINGS = "s", "1/s", "TFLOP/s", "times"


@dataclass(frozen=True)
class Figure:
    """value: None where there is none, such as a median of images that were not localized. unit:
    "m", "deg", "s", "MB", "1", "share" ... better: LOWER or HIGHER. of: for a share, of how many.
    """

    value: float | None
    unit: str
    better: str
    of: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "of" or value}


Extract = Callable[[Any], dict[str, Figure]]  # of a benchmark's JSON


def lower(value: Any, unit: str) -> Figure:
    return Figure(_finite(value), unit, LOWER)


def higher(value: Any, unit: str) -> Figure:
    return Figure(_finite(value), unit, HIGHER)


def share(value: Any, of: int) -> Figure:
    """Return a share, 0 to 1, of so many; the more the better."""
    return Figure(_finite(value), "share", HIGHER, int(of))


def of_evaluate(result: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of `vggt3 evaluate --out`."""
    out = {
        "corrected ATE": lower(result["corrected"]["ate_m"], "m"),
        "corrected rotation": lower(result["corrected"]["rotation_deg"], "deg"),
    }
    if "median_error_m" in result["map"]:
        out["map error"] = lower(result["map"]["median_error_m"], "m")
    for key, name in (("localization_memory", "memory alone"), ("localization", "verified")):
        if key in result:
            out |= _localization(name, result[key])
    for stage, seconds in result["seconds"].items():
        out[f"seconds {stage}"] = lower(seconds, "s")
    out["peak memory"] = lower(result["peak_memory_mb"], "MB")
    return out


def of_network(result: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark network --json`."""
    out = {}
    for kind, found in result["map"].items():
        for row in found["rows"]:
            name = f"{kind} map of {row['images']}"
            out[name] = lower(row["seconds"], "s")
            out[f"{name}, of the product"] = higher(row["fraction_of_matrix_product"], "times")
        if "plain" in found:
            out[f"{kind} against plain"] = higher(found["plain"]["speedup"], "times")
    for row in result.get("query", ()):
        out[f"query in {row['mapped_images']}"] = lower(row["seconds"], "s")
    return out


def of_memory(rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark memory --json`."""
    out: dict[str, Figure] = {}
    for row in rows:
        name = f"{row['sequence']}, {row['kind']}"
        out |= _localization(name, row)
        out[f"{name}: made in"] = lower(row["seconds"], "s")
        out[f"{name}: size"] = lower(row["memory_mb"], "MB")
    return out


def of_refusals(rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark refusals --json`."""
    out = {}
    for row in rows:
        name = f"{row['map']}, {row['way']}"
        if row["images"] == "its own":
            out[f"{name}: own accepted"] = share(row["accepted"] / row["asked"], row["asked"])
        out[f"{name}: {row['images']} falsely accepted"] = lower(row["accepted_false"], "1")
    return out


def of_faults(rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark faults --json`."""
    ratios = [row["corrected_m"] / row["unharmed_m"] for row in rows if row["unharmed_m"] > 0]
    return {
        "passed": share(sum(row["passes"] for row in rows) / len(rows), len(rows)),
        "worst ratio": lower(max(ratios, default=math.nan), "1"),
        "false loops": lower(sum(row["false"] for row in rows), "1"),
    }


def of_rooms(rows: list[dict[str, Any]]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark rooms --json`."""
    out: dict[str, Figure] = {}
    for row in rows:
        name = f"{row['rooms']} rooms"
        out |= _localization(f"{name}, memory alone", row["localization_memory"])
        out |= _localization(f"{name}, verified", row["localization"])
        out[f"{name}: memory made in"] = lower(row["memory_s"], "s")
        out[f"{name}: memory size"] = lower(row["memory_mb"], "MB")
        out[f"{name}: peak memory"] = lower(row["peak_memory_mb"], "MB")
    return out


def of_growth(result: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark growth --json`."""
    out = {}
    for row in result["rows"]:
        for stage, seconds in row["seconds"].items():
            out[f"{row['keyframes']} keyframes: {stage}"] = lower(seconds, "s")
        out[f"{row['keyframes']} keyframes: peak memory"] = lower(row["peak_memory_mb"], "MB")
    out["ATE"] = lower(result["ate_m"], "m")
    out["map error"] = lower(result["map_median_error_m"], "m")
    return out


def of_node(result: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark node --json`."""
    load = result["load"]
    out = {
        "keyframes lost": lower(load["lost"], "1"),
        "localize p50": lower(load["localize"]["p50"], "s"),
        "localize p95": lower(load["localize"]["p95"], "s"),
        "requests lost": lower(load["localize"]["lost"], "1"),
        "age of map->odom": lower(load["greatest_age"], "s"),
        "ingest": higher(result["ingest"]["per_second"], "1/s"),
    }
    for process, curve in load["memory"].items():
        out[f"memory of the {process}"] = lower(max(curve["mb"]), "MB")
    return out


def of_restarts(result: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark restarts --json`."""
    return {
        "acknowledged keyframes lost": lower(result["lost"], "1"),
        "starts that served something else": lower(result["differing"], "1"),
        "what was wrong": lower(len(result["wrong"]), "1"),
        "served after": lower(result["seconds_median"], "s"),
    }


def of_session(result: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of `vggt3 benchmark session --json`."""
    localize = result["localize"]
    return {
        "peak memory of all processes": lower(result["peak_mb"], "MB"),
        "keyframes lost": lower(result["lost"], "1"),
        "localized": share(
            localize["localized"] / localize["asked"] if localize["asked"] else None,
            localize["asked"],
        ),
        "localize p95": lower(localize["p95"], "s"),
        "seconds of the last refinement": lower(result["rows"][-1]["seconds"], "s"),
    }


def _localization(name: str, score: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of a LocalizationScore as a dict."""
    return {
        f"{name}: median": lower(score["median_m"], "m"),
        f"{name}: within 5 cm, 5 deg": share(score["within_5cm_5deg"], score["queries"]),
        f"{name}: within 10 cm, 10 deg": share(score["within_10cm_10deg"], score["queries"]),
        f"{name}: a query": lower(score["seconds_per_query"], "s"),
    }


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
