"""Measurements behind `vggt3 benchmark node`: the node as a process, loaded over DDS while it
refines and localizes.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.ros.clients.processes import BACKEND, MemoryWatch, backend_process
from vggt3_ros.ros.load.harness import NAMESPACE, ready, ros
from vggt3_ros.ros.load.observer import IN_FLIGHT, Observer
from vggt3_ros.ros.load.stream import Stream
from vggt3_ros.store.keyframes import KeyframeStore

# (what, measured, target, whether it is met; None without a target)
TableRow: TypeAlias = tuple[str, str, str, bool | None]
BURST = 300  # keyframes in the ingest measurement
TARGETS = {"keyframes lost": 0, "localize p95": 0.5, "age of map->odom": 0.2, "ingest": 60.0}


def run(
    sequence: Sequence,
    seconds: float,
    rate: float,
    period: float,
    out: Path,
    backend: str = BACKEND,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Load the node with `rate` keyframes per second for `seconds` seconds, and one localize
    request every `period` seconds; then measure ingest alone.

    Logs and stores are written to `out`. Returns a dict of JSON values. Raises RuntimeError if a
    process fails.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    stream = Stream(sequence)
    with ros() as context:
        load = _load(context, stream, seconds, rate, period, out, backend, settings or {})
        return {"load": load, "ingest": _ingest(context, stream, out, backend)}


def _load(
    context: object,
    stream: Stream,
    seconds: float,
    rate: float,
    period: float,
    out: Path,
    backend: str,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure the node under load."""
    parameters = {"store": out / "load_store", "map_folder": out / "maps", **settings}
    with backend_process(out / "load.log", parameters, NAMESPACE, backend) as node:
        observer, memory = Observer("vggt3_load", context), MemoryWatch(node.pid)
        try:
            ready(observer, node, out / "load.log")
            observer.ask_forever(stream, period)
            count, begin = round(seconds * rate), len(memory.samples)
            observer.send(stream, count, lambda k: k / rate, None)
            rows, status = np.array(memory.samples[begin:]), observer.status
        finally:
            observer.close()
    assert status is not None  # it was ready
    with KeyframeStore(out / "load_store", read_only=True) as store:
        lost = count - len(store)
    return {
        "seconds": seconds,
        "rate": rate,
        "keyframes": count,
        "lost": lost,
        "refused": status.refused,
        "refinements": status.generation,
        "refined": status.keyframes_refined,
        "localize": answers(observer),
        "greatest_age": observer.greatest_age,
        "memory": memory_curve(rows),
    }


def _ingest(context: object, stream: Stream, out: Path, backend: str) -> dict[str, Any]:
    """Measure ingest alone: send keyframes as fast as they are acknowledged, without refinement."""
    parameters = {
        "store": out / "ingest_store",
        "map_folder": out / "maps",
        "refine_every_keyframes": 0,
        "refine_every_seconds": 0.0,
    }
    with backend_process(out / "ingest.log", parameters, NAMESPACE, backend) as node:
        observer = Observer("vggt3_ingest", context)
        try:
            ready(observer, node, out / "ingest.log")
            begin = time.monotonic()
            observer.send(stream, BURST, lambda k: 0.0, IN_FLIGHT)
            assert observer.status is not None  # it was ready
            taken = observer.status.keyframes
        finally:
            observer.close()
    # The last few may wait for the next periodic status: measure the time until nine tenths were
    # acknowledged.
    seconds, counted = next(
        ((at - begin, count) for at, count in observer.acknowledged if count >= 0.9 * BURST),
        (float("inf"), taken),
    )
    return {"keyframes": BURST, "taken": taken, "per_second": counted / seconds}


def answers(observer: Observer) -> dict[str, Any]:
    """Return counts and response times, seconds, of the localize requests."""
    times = observer.answers or [float("nan")]
    return {
        "asked": len(observer.answers) + observer.codes["lost"],
        "localized": observer.codes[0],
        "lost": observer.codes["lost"],
        "p50": float(np.percentile(times, 50)),
        "p95": float(np.percentile(times, 95)),
        "longest": float(max(times)),
    }


def memory_curve(rows: np.ndarray) -> dict[str, Any]:
    """Summarize rows (N, 3) of MemoryWatch: per process, MB at the quarters of the time, and MB
    per minute over the second half.
    """
    half = rows[len(rows) // 2 :]
    at = [int(q * (len(rows) - 1)) for q in (0, 0.25, 0.5, 0.75, 1)]
    return {
        name: {
            "mb": [float(rows[k, column]) for k in at],
            "slope": float(np.polyfit(half[:, 0] / 60, half[:, column], 1)[0]),
        }
        for name, column in (("node", 1), ("worker", 2))
    }


def table(result: Mapping[str, Any]) -> list[TableRow]:
    """Return rows (what, measured, target, whether it is met; None without a target)."""
    load, ingest = result["load"], result["ingest"]
    localize, curve = load["localize"], load["memory"]
    rows: list[TableRow] = [
        ("keyframes sent", f"{load['keyframes']} at {load['rate']:g}/s", "", None),
        ("keyframes lost", f"{load['lost']}", "0", load["lost"] == 0),
        (
            "refinements published",
            f"{load['refinements']}, the last with {load['refined']} keyframes",
            "",
            None,
        ),
        ("localize p50", f"{localize['p50']:.2f} s", "", None),
        (
            "localize p95",
            f"{localize['p95']:.2f} s",
            "0.5 s",
            localize["p95"] <= TARGETS["localize p95"],
        ),
        ("localized", f"{localize['localized']} of {localize['asked']}", "", None),
        (
            "greatest age of map->odom",
            f"{load['greatest_age']:.2f} s",
            "0.2 s",
            load["greatest_age"] <= TARGETS["age of map->odom"],
        ),
    ]
    for name, values in curve.items():
        rows.append(
            (
                f"memory of the {name} at each quarter of the time",
                " ".join(f"{mb:.0f}" for mb in values["mb"]) + " MB",
                "",
                None,
            )
        )
        rows.append(
            ("its growth over the second half", f"{values['slope']:+.0f} MB/min", "", None)
        )
    rows.append(
        (
            "ingest alone",
            f"{ingest['per_second']:.0f} keyframes/s",
            "60",
            ingest["per_second"] >= TARGETS["ingest"],
        )
    )
    return rows
