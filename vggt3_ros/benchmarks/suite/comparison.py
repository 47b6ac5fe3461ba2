"""Two runs of all benchmarks compared, figure by figure: what got worse beyond the noise that is
known.

A figure got worse where its ratio to the other run, turned so that more than 1 is worse, exceeds
1 + noise. The noise is the largest of
- FLOOR by unit: what two runs of the same code differ by,
- the range of repeated runs, over their median, of either file (`benchmark all --repeat`),
- of a share, the 95 % interval of the difference of two such shares (binomial, pooled).
Counts (unit 1, of what must not happen) have no noise: one more is worse. Timings are judged only
where both machines are the same and neither was busy; the others' ratios are shown alone. What a
run lost, a part that failed or a figure without a value where the other has one, counts as worse.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggt3_ros.benchmarks.suite.figures import LOWER, TIMINGS
from vggt3_ros.benchmarks.suite.running import FAILED, FORMAT
from vggt3_ros.system.machine import SAME

MOST_BYTES = 2**28
FLOOR = {"MB": 0.05, "1": 0.0, "share": 0.0, **dict.fromkeys(TIMINGS, 0.15)}
OTHER_FLOOR = 0.05  # errors: RANSAC and the order of threads change their last digits
SIGMAS = 1.96
BUSY = 0.1  # of the cores, that others may keep busy meanwhile
WORSE, BETTER, SAME_WITHIN, UNJUDGED, LOST = "worse", "better", "", "not judged", "lost"


@dataclass(frozen=True)
class Row:
    """One figure of both runs. ratio: b / a, NaN where either is missing. worsening: the ratio
    turned so that more than 1 is worse. noise: see the module. why: of a verdict UNJUDGED or LOST.
    """

    part: str
    name: str
    unit: str
    a: float | None
    b: float | None
    ratio: float
    worsening: float
    noise: float
    verdict: str
    why: str = ""

    def fails(self, over: float) -> bool:
        """Whether it is worse, and by more than `over` times."""
        return self.verdict == LOST or (self.verdict == WORSE and self.worsening > over)


def load(path: str | Path) -> dict[str, Any]:
    """Return what `benchmark all` wrote; ValueError where a file is something else."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes: it is no run of benchmarks")
    try:
        run = json.loads(path.read_text())
        if run["format"] != FORMAT:
            raise ValueError(f"format {run['format']}, this version reads {FORMAT}")
        for entry in run["parts"].values():
            for figure in entry.get("figures", {}).values():
                _numbers(figure["values"])
                _value(figure["value"])
                str.strip(figure["unit"])
            _value(entry.get("others"))
        run["machine"].keys()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not what `vggt3 benchmark all` writes: {type(error).__name__}: {error}"
        ) from error
    return dict(run)


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[Row]:
    """Return a Row for each figure of either of two runs, in the order of the first."""
    other = _other_machine(a["machine"], b["machine"])
    rows = []
    for part in dict.fromkeys([*a["parts"], *b["parts"]]):
        first, second = a["parts"].get(part), b["parts"].get(part)
        if first is None or second is None:
            why = f"only in {'b' if first is None else 'a'}"
            rows.append(_without(part, "", UNJUDGED, why))
        elif FAILED in (first["status"], second["status"]):
            rows.append(_failed(part, first, second))
        elif first["setting"] != second["setting"]:
            rows.append(_without(part, "", UNJUDGED, "measured with other settings"))
        else:
            rows += _of_part(
                part, first, second, other or _busy(a, first, "a") or _busy(b, second, "b")
            )
    return rows


def _of_part(part: str, first: dict[str, Any], second: dict[str, Any], untimed: str) -> list[Row]:
    before, after = first["figures"], second["figures"]
    rows = []
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after:
            why = f"only in {'b' if name not in before else 'a'}"
            rows.append(_without(part, name, UNJUDGED, why))
        else:
            rows.append(_of_figure(part, name, before[name], after[name], untimed))
    return rows


def _of_figure(
    part: str, name: str, before: dict[str, Any], after: dict[str, Any], untimed: str
) -> Row:
    a, b, unit = before["value"], after["value"], before["unit"]
    if a is None or b is None:
        verdict = SAME_WITHIN if a is b else LOST if b is None else BETTER
        why = "no value in b" if verdict == LOST else ""
        return Row(part, name, unit, a, b, math.nan, math.nan, math.nan, verdict, why)
    ratio = _ratio(a, b)
    worsening = ratio if before["better"] == LOWER else _ratio(b, a)
    noise = _noise(before, after)
    verdict, why = SAME_WITHIN, ""
    if unit in TIMINGS and untimed:
        verdict, why = UNJUDGED, untimed
    elif worsening > 1 + noise:
        verdict = WORSE
    elif worsening < 1 / (1 + noise):
        verdict = BETTER
    return Row(part, name, unit, a, b, ratio, worsening, noise, verdict, why)


def _ratio(a: float, b: float) -> float:
    if a == b:
        return 1.0
    return b / a if a else math.inf


def _noise(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return by how much, as a share, a figure may differ without a reason."""
    noises = [FLOOR.get(before["unit"], OTHER_FLOOR)]
    for figure in (before, after):
        values = [value for value in figure["values"] if value is not None]
        if len(values) > 1 and figure["value"]:
            noises.append((max(values) - min(values)) / abs(figure["value"]))
    if before["unit"] == "share":
        noises.append(_of_shares(before, after))
    return max(noises)


def _of_shares(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return the 95 % interval of the difference of two shares, over the smaller one."""
    a, b, of_a, of_b = before["value"], after["value"], before.get("of"), after.get("of")
    if not of_a or not of_b:
        return 0.0
    pooled = (a * of_a + b * of_b) / (of_a + of_b)
    half = SIGMAS * math.sqrt(pooled * (1 - pooled) * (1 / of_a + 1 / of_b))
    return half / min(a, b) if min(a, b) > 0 else half


def _failed(part: str, first: dict[str, Any], second: dict[str, Any]) -> Row:
    if second["status"] != FAILED:
        return _without(part, "", BETTER, "failed in a")
    verdict = UNJUDGED if first["status"] == FAILED else LOST
    return _without(part, "", verdict, f"failed in b: {second.get('error', '')}")


def _without(part: str, name: str, verdict: str, why: str) -> Row:
    return Row(part, name, "", None, None, math.nan, math.nan, math.nan, verdict, why)


def _other_machine(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Return why timings of two machines do not compare; empty where they do."""
    differing = [name for name in SAME if a.get(name) != b.get(name)]
    return f"another machine ({', '.join(differing)})" if differing else ""


def _busy(run: dict[str, Any], entry: dict[str, Any], which: str) -> str:
    cores = run["machine"].get("cores") or 1
    others = entry.get("others") or 0.0
    return (
        f"{which} was measured beside others, who kept {others:g} of {cores} cores busy"
        if others > BUSY * cores
        else ""
    )


def _numbers(values: list[float | None]) -> None:
    for value in values:
        _value(value)


def _value(value: float | None) -> None:
    """TypeError for what is no number."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise TypeError(f"{value!r:.40} is no number")
