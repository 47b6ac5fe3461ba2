"""Seconds and memory by stage."""

from xml.etree.ElementTree import Element

import numpy as np

from vggt3_ros.evaluation.report_page.bars import bars
from vggt3_ros.evaluation.report_page.elements import Child, element, figure, table
from vggt3_ros.evaluation.report_page.facts import Facts
from vggt3_ros.evaluation.report_page.sections import absent, section


def cost(facts: Facts) -> Element:
    """Return the section of what the refinement cost."""
    title = "Seconds and memory by stage"
    evaluation, snapshot = facts.evaluation, facts.snapshot
    told = evaluation.result["seconds"] if evaluation else snapshot.seconds
    seconds = _numbers(told)
    if not seconds:
        return absent("cost", title, "The snapshot does not say what its refinement cost.")
    memory = _memory(snapshot.report.get("memory_mb"))
    head = ("stage", "seconds", "memory at its end", "peak so far")
    stages = [name for name in seconds if name != "total"]
    rows: list[tuple[Child | float, ...]] = []
    for name in [*stages, "total"] if "total" in seconds else stages:
        used = [f"{mb:,.0f} MB" for mb in memory[name]] if name in memory else ["", ""]
        spent = figure(f"seconds.{name}", seconds[name], f"{seconds[name]:.2f} s")
        rows.append((name.replace("_", " "), spent, *(used if memory else [])))
    content: list[Child] = [
        bars(
            "seconds",
            "Seconds by stage",
            {name.replace("_", " "): seconds[name] for name in stages},
            "s",
        ),
        table(head if memory else head[:2], rows, class_="sortable"),
        element(
            "p", _explained(bool(memory), evaluation is not None and "grow" in evaluation.result)
        ),
    ]
    if evaluation:
        peak = evaluation.result["peak_memory_mb"]
        content.append(
            element("p", "Peak memory: ", figure("peak_memory_mb", peak, f"{peak:,.0f} MB"), ".")
        )
        content += _growth(evaluation.result.get("grow"))
    return section("cost", title, *content)


def _explained(known: bool, grown: bool) -> str:
    text = "Memory is that of the process and its children, resident."
    if not known:
        text = "The snapshot does not say how much memory each stage took."
    return text + (
        " Seconds are of the first refinement, memory of the last one." if grown else ""
    )


def _growth(grow: dict[str, object] | None) -> list[Child]:
    if not grow:
        return []
    seconds = _numbers(grow["seconds"])
    return [
        element("h3", f"{grow['keyframes']} keyframes more on {grow['onto']}"),
        table(
            ("stage", "seconds"),
            [
                (name.replace("_", " "), figure(f"grow.seconds.{name}", s, f"{s:.2f} s"))
                for name, s in seconds.items()
            ],
        ),
    ]


def _numbers(values: object) -> dict[str, float]:
    """Return the finite numbers of a dict that a file may have held."""
    if not isinstance(values, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and np.isfinite(value)
    }


def _memory(values: object) -> dict[str, tuple[float, float]]:
    """Return {stage: (resident, peak)}, MB, of what the stages noted."""
    if not isinstance(values, dict):
        return {}
    noted = {name: _numbers(entry) for name, entry in values.items()}
    return {
        str(name): (entry["resident"], entry["peak"])
        for name, entry in noted.items()
        if {"resident", "peak"} <= entry.keys()
    }
