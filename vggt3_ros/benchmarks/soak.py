"""Run the node for minutes with keyframes, localize requests, malformed messages, and a worker
that is killed repeatedly.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vggt3_ros.benchmarks.node import TableRow, answers, memory_curve
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.ros.clients.processes import BACKEND, MemoryWatch, backend_process, uncaught
from vggt3_ros.ros.load.harness import NAMESPACE, ready, ros
from vggt3_ros.ros.load.mischief import BROKEN_IDS, Vandal, WorkerKiller
from vggt3_ros.ros.load.observer import Observer
from vggt3_ros.ros.load.stream import Stream
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot


class Refusals(Protocol):
    """The part of a Status message that counts refused keyframes."""

    refused: int


AGE_TARGET, NODE_MB_PER_MINUTE = 0.2, 10.0


def run(
    sequence: Sequence,
    minutes: float,
    rate: float,
    out: Path,
    seed: int = 0,
    backend: str = BACKEND,
    settings: Mapping[str, Any] | None = None,
) -> list[TableRow]:
    """Run a soak test. Returns rows (what, measured, target, whether it is met; None without a
    target).

    Logs and stores are written to `out`. backend: see backend_process. settings: further
    parameters of the node. Raises RuntimeError if the node dies.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    stream, log = Stream(sequence), out / "soak.log"
    count = round(60 * minutes * rate)
    parameters = {
        "store": out / "soak_store",
        "map_folder": out / "maps",
        "odom_frame": "odom",
        **(settings or {}),
    }
    with ros() as context, backend_process(log, parameters, NAMESPACE, backend) as node:
        observer, memory = Observer("vggt3_soak", context), MemoryWatch(node.pid)
        try:
            ready(observer, node, log)
            begin = len(memory.samples)
            observer.ask_forever(stream, 2.0, seed)
            killer, vandal = (
                WorkerKiller(observer, node.pid, seed),
                Vandal(observer, stream, 0.7, seed),
            )
            observer.send(stream, count, _pace(rate, seed), None)
            observer.closing.set()
            time.sleep(3.0)
            alive, rows = node.poll() is None, np.array(memory.samples[begin:])
            status = observer.status
            assert status is not None  # it was ready
        finally:
            observer.close()
    return [
        *_keyframes(out, count, status, vandal),
        *_node(alive, log, killer, observer, vandal),
        *_memory(rows),
        *_map(out, stream),
    ]


def _pace(rate: float, seed: int) -> Callable[[int], float]:
    """Return the send times of keyframes that arrive in bursts, `rate` per second on average."""
    waits = np.random.default_rng(seed).exponential(1 / rate, 1_000_000)
    waits[0] = 0.0
    return np.cumsum(waits).__getitem__


def _keyframes(out: Path, count: int, status: Refusals, vandal: Vandal) -> Iterator[TableRow]:
    with KeyframeStore(out / "soak_store", read_only=True) as store:
        ids = store.ids()
    lost = count - sum(id < BROKEN_IDS for id in ids)
    foreign = len(ids) - (count - lost)
    yield "keyframes lost", f"{lost} of {count}", "0", lost == 0
    yield (
        "malformed keyframes refused",
        f"{status.refused} of {vandal.sent}, {foreign} accepted",
        "all",
        (status.refused == vandal.sent and not foreign),
    )


def _node(
    alive: bool, log: Path, killer: WorkerKiller, observer: Observer, vandal: Vandal
) -> Iterator[TableRow]:
    exceptions = uncaught(log)
    yield "the node is alive", "yes" if alive else "no", "yes", alive
    yield "uncaught exceptions", f"{exceptions}", "0", exceptions == 0
    done = [seconds for seconds in killer.recoveries if seconds is not None]
    text = (
        f"{len(done)} of {len(killer.recoveries)}, after {np.mean(done):.0f} s on average, {max(done):.0f} s at most"
        if done
        else "none"
    )
    yield (
        "kills of the worker followed by a completed refinement",
        text,
        "all",
        bool(done) and len(done) == len(killer.recoveries),
    )
    found = answers(observer)
    yield (
        "localize requests answered",
        (
            f"{found['asked'] - found['lost']} of {found['asked']}, {found['localized']} localized; "
            f"p95 {found['p95']:.2f} s"
        ),
        "all",
        found["lost"] == 0 < found["localized"],
    )
    yield (
        "malformed requests answered",
        f"{vandal.asked - vandal.unanswered} of {vandal.asked}",
        "all",
        vandal.unanswered == 0,
    )
    yield (
        "greatest age of map->odom",
        f"{observer.greatest_age:.2f} s",
        f"{AGE_TARGET} s",
        observer.greatest_age <= AGE_TARGET,
    )


def _memory(rows: np.ndarray) -> Iterator[TableRow]:
    curve = memory_curve(rows)
    node, worker = curve["node"], curve["worker"]
    yield (
        "memory of the node at each quarter of the time",
        " ".join(f"{mb:.0f}" for mb in node["mb"]) + " MB",
        "",
        None,
    )
    yield (
        "its growth over the second half",
        f"{node['slope']:+.1f} MB/min",
        f"{NODE_MB_PER_MINUTE:g} MB/min",
        (node["slope"] <= NODE_MB_PER_MINUTE),
    )
    yield "peak memory of the worker", f"{rows[:, 2].max():.0f} MB", "", None
    yield (
        "memory of the worker at each quarter of the time",
        " ".join(f"{mb:.0f}" for mb in worker["mb"]) + " MB",
        "",
        None,
    )


def _map(out: Path, stream: Stream) -> Iterator[TableRow]:
    """Compare the last snapshot and its odometry with the truth, if there is one."""
    newest = max((out / "soak_store" / "snapshots").glob("[0-9]" * 6), default=None)
    if newest is None:
        yield "last map", "none: no refinement completed", "one", False
        return
    snapshot = Snapshot.load(newest)
    yield "last map", f"{len(snapshot)} keyframes, {len(snapshot.cloud)} points", "", None
    if stream.truth is None:
        yield "its error (ATE)", "unknown: the sequence has no ground truth", "", None
        return
    truth = stream.truth[[stream.index(int(id)) for id in snapshot.keyframe_ids]]
    yield error_row(
        *(
            trajectory_error(poses, truth, snapshot.stamps_ns).ate_m
            for poses in (snapshot.T_map_cam, snapshot.T_odom_cam)
        )
    )


def error_row(corrected_m: float, odometry_m: float) -> TableRow:
    """Return the row of the map's ATE beside that of its odometry."""
    return (
        "its error (ATE)",
        f"{100 * corrected_m:.1f} cm",
        f"at most that of the odometry, {100 * odometry_m:.1f} cm",
        corrected_m <= odometry_m,
    )
