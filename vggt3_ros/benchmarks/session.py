"""Measurements behind `vggt3 benchmark session`: memory of the node's processes over a session of
thousands of keyframes.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vggt3_ros.benchmarks.node import TableRow, answers
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.ros.clients.goal_client import GoalClient
from vggt3_ros.ros.clients.processes import (
    BACKEND,
    MemoryWatch,
    backend_process,
    refine_client,
    refined,
)
from vggt3_ros.ros.load.harness import NAMESPACE, ready, ros
from vggt3_ros.ros.load.observer import IN_FLIGHT, Observer
from vggt3_ros.ros.load.stream import Walk
from vggt3_ros.store.keyframes import KeyframeStore

REFINE_SECONDS = 1800.0  # longest allowed refinement


def run(
    sequence: Sequence,
    batch: int,
    period: float,
    out: Path,
    backend: str = BACKEND,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Send all keyframes of a Sequence and refine after every `batch`, with a localize request
    every `period` seconds.

    Returns {"rows": one dict of figures per refinement, "peak_mb": of node, worker and fusion
    together, "lost": keyframes that were not stored, "localize": as node.answers}.
    progress(keyframes refined). Raises RuntimeError if a process fails.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    parameters = {
        "store": out / "session_store",
        "map_folder": out / "maps",
        "refine_every_keyframes": 0,
        "refine_every_seconds": 0.0,
        **(settings or {}),
    }
    walk, log, rows, count = Walk(sequence), out / "session.log", [], len(sequence.keyframes)
    with ros() as context, backend_process(log, parameters, NAMESPACE, backend) as node:
        observer, memory = Observer("vggt3_session", context), MemoryWatch(node.pid)
        try:
            ready(observer, node, log)
            observer.ask_forever(walk, period)
            refiner = refine_client(observer)
            for _ in range(math.ceil(count / batch)):
                rows.append(_grown(observer, refiner, walk, min(batch, count - walk.sent), memory))
                if progress is not None:
                    progress(walk.sent)
        finally:
            observer.close()
    with KeyframeStore(out / "session_store", read_only=True) as store:
        lost = count - len(store)
    return {"rows": rows, "peak_mb": memory.peak_mb, "lost": lost, "localize": answers(observer)}


def _grown(
    observer: Observer, refiner: GoalClient, walk: Walk, count: int, memory: MemoryWatch
) -> dict[str, Any]:
    """Send `count` more keyframes and refine. Returns the memory that the processes used
    meanwhile, MB.
    """
    first = len(memory.samples) - 1  # one sample per half second; a batch may take less
    observer.send(walk, count, lambda k: 0.0, IN_FLIGHT)
    result = refined(refiner, REFINE_SECONDS)
    own, others = zip(*(sample[1:] for sample in memory.samples[first:]))
    return {
        "keyframes": walk.sent,
        "refined": result.keyframes,
        "seconds": result.seconds,
        "node_mb": own[-1],
        "worker_mb": others[-1],
        "peak_mb": max(map(sum, zip(own, others))),
    }


def table(result: Mapping[str, Any], limit_mb: float) -> Iterator[TableRow]:
    """Yield rows (what, measured, target, whether it is met; None without a target)."""
    for row in result["rows"]:
        yield (
            f"{row['keyframes']} keyframes",
            f"node {row['node_mb']:.0f} MB, worker {row['worker_mb']:.0f} MB, at most "
            f"{row['peak_mb']:.0f} MB; refined in {row['seconds']:.0f} s",
            "",
            None,
        )
    yield (
        "peak memory of node, worker and fusion together",
        f"{result['peak_mb']:.0f} MB",
        f"{limit_mb:.0f} MB",
        result["peak_mb"] <= limit_mb,
    )
    yield "keyframes lost", f"{result['lost']}", "0", result["lost"] == 0
    localize = result["localize"]
    yield (
        "localized",
        f"{localize['localized']} of {localize['asked']}, {localize['lost']} without an answer",
        "",
        None,
    )
    yield "localize p50, p95", f"{localize['p50']:.2f}, {localize['p95']:.2f} s", "", None
