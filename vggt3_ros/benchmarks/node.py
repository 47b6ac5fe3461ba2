"""Measurements behind `vggt3 benchmark node`: the node as a process, loaded over DDS while it
refines and localizes.
"""

import os
import time

import numpy as np

from vggt3_ros.ros.clients.processes import BACKEND, MemoryWatch, backend_process
from vggt3_ros.ros.load.harness import NAMESPACE, ready, ros
from vggt3_ros.ros.load.observer import IN_FLIGHT, Observer
from vggt3_ros.ros.load.stream import Stream
from vggt3_ros.store.keyframes import KeyframeStore

BURST = 300  # keyframes of the ingest alone
TARGETS = {"keyframes lost": 0, "localize p95": 0.5, "age of map->odom": 0.2, "ingest": 60.0}


def run(sequence, seconds, rate, period, out, backend=BACKEND, settings=None):
    """Load the node with `rate` keyframes a second for so long, one localize request every
    `period` seconds; then measure ingest alone. Logs and stores go to `out`. Returns a dict of
    plain numbers; RuntimeError when a process fails.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    stream = Stream(sequence)
    with ros() as context:
        load = _load(context, stream, seconds, rate, period, out, backend, settings or {})
        return {"load": load, "ingest": _ingest(context, stream, out, backend)}


def _load(context, stream, seconds, rate, period, out, backend, settings):
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


def _ingest(context, stream, out, backend):
    """Keyframes as fast as they are acknowledged; nothing is refined."""
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
            taken = observer.status.keyframes
        finally:
            observer.close()
    # The last few may wait for a status that is sent by the clock: what counts is the one that
    # nine tenths were acknowledged with.
    seconds, counted = next(
        ((at - begin, count) for at, count in observer.acknowledged if count >= 0.9 * BURST),
        (float("inf"), taken),
    )
    return {"keyframes": BURST, "taken": taken, "per_second": counted / seconds}


def answers(observer):
    """Counts and times of the localize requests."""
    times = observer.answers or [float("nan")]
    return {
        "asked": len(observer.answers) + observer.codes["lost"],
        "localized": observer.codes[0],
        "lost": observer.codes["lost"],
        "p50": float(np.percentile(times, 50)),
        "p95": float(np.percentile(times, 95)),
        "longest": float(max(times)),
    }


def memory_curve(rows):
    """rows (N, 3) of MemoryWatch -> per process MB at the quarters of the time, and MB a minute
    over the last half.
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


def table(result):
    """Rows (what, measured, target, whether it is met; None without a target)."""
    load, ingest = result["load"], result["ingest"]
    localize, curve = load["localize"], load["memory"]
    rows = [
        ("keyframes sent", f"{load['keyframes']} at {load['rate']:g}/s", "", None),
        ("keyframes lost", f"{load['lost']}", "0", load["lost"] == 0),
        (
            "refinements published",
            f"{load['refinements']}, the last of {load['refined']} keyframes",
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
                f"memory of the {name}, by quarters of the time",
                " ".join(f"{mb:.0f}" for mb in values["mb"]) + " MB",
                "",
                None,
            )
        )
        rows.append(("its growth over the last half", f"{values['slope']:+.0f} MB/min", "", None))
    rows.append(
        (
            "ingest alone",
            f"{ingest['per_second']:.0f} keyframes/s",
            "60",
            ingest["per_second"] >= TARGETS["ingest"],
        )
    )
    return rows
