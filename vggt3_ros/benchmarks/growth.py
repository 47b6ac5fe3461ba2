"""Measure what a few new keyframes cost a large map: seconds per stage, and memory."""

import json
import os
import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import psutil

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.evaluation.cloud import surface_error
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.system.memory_use import peak_mb

SOLVE = "pose_graph"  # the stage whose cost grows with the whole map
Run: TypeAlias = dict[str, Any]  # JSON values
Clock: TypeAlias = Callable[[], float]
Progress: TypeAlias = Callable[[str, float], object]  # progress(stage, fraction)


def measure_growth(
    sequence: Sequence,
    store: KeyframeStore,
    building: BackendConfig,
    measured: BackendConfig,
    counts: Items[int],
    add: int,
    repeat: int,
    batch: int,
    surfaces: Scene,
    kept: Path,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """Grow a map to ascending keyframe counts and measure there what further keyframes cost.

    The map grows by `batch` keyframes per refinement, with the config `building`. At each count,
    `add` keyframes are added and refined `repeat` times with the config `measured`; the reported
    seconds are the medians. The stage "publish" is the remaining time of refine(), in which the
    snapshot is written. peak_memory_mb: of this process and its children up to that point.
    surfaces: the exact ones, for the error of the final map. kept: file in which measurements are
    saved; with it and the store, an interrupted run resumes. clock() returns seconds. Raises
    ValueError if the sequence is too short.
    """
    plan = _plan(counts, add, repeat, batch)
    if len(sequence) < plan[-1][0]:
        raise ValueError(
            f"{len(sequence)} keyframes are too few: {counts[-1]} and {repeat} times {add} more are required"
        )
    runs = json.loads(kept.read_text()) if kept.exists() else []
    with closing(Backend(store, building)) as backend:
        held = len(backend.snapshot) if backend.snapshot else 0
        if 0 < held < plan[-1][0]:
            backend.refine(
                progress=progress
            )  # restore the state in memory that an uninterrupted process would have
        for wanted, count in plan:
            if wanted > held:
                _settle(backend, measured if count else building)
                run = {
                    "keyframes": count,
                    **_grown(backend, sequence, held, wanted, progress, clock),
                }
                held = wanted
                if count:
                    runs.append(run)
                    kept.write_text(json.dumps(runs))
        snapshot = backend.snapshot
    assert snapshot is not None and sequence.groundtruth is not None
    rows = [_row(count, [run for run in runs if run["keyframes"] == count]) for count in counts]
    trajectory = trajectory_error(
        snapshot.T_map_cam, sequence.groundtruth[:held], sequence.stamps_ns[:held]
    )
    error = surface_error(snapshot.cloud.points, surfaces, trajectory.T_truth_estimate)
    ratio = {
        name: _ratio(rows[-1]["seconds"][name], rows[0]["seconds"][name])
        for name in rows[0]["seconds"]
    }
    return {
        "rows": rows,
        "ratio": ratio,
        "add": add,
        "repeat": repeat,
        "ate_m": trajectory.ate_m,
        "map_median_error_m": error.median_m,
    }


def _plan(counts: Items[int], add: int, repeat: int, batch: int) -> list[tuple[int, int | None]]:
    """Return [(keyframes after a refinement, the count that it is measured for or None), ...]."""
    plan: list[tuple[int, int | None]] = []
    held = 0
    for count in counts:
        while held < count:
            held = min(held + batch, count)
            plan.append((held, None))
        for _ in range(repeat):
            held += add
            plan.append((held, count))
    return plan


def _settle(backend: Backend, config: BackendConfig) -> None:
    """Switch to another config and keep the fused surface."""
    if backend.config is not config:
        backend.config = config
        backend.keeper = MemoryKeeper(backend.frames, config, backend.device)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its children: a clock for a machine under other
    load.
    """
    processes = [psutil.Process(os.getpid())]
    processes += processes[0].children(recursive=True)
    return sum(sum(process.cpu_times()[:2]) for process in processes)


class _Timed:
    """A progress(stage, fraction) that adds up the seconds of each stage."""

    def __init__(self, clock: Clock, progress: Progress | None) -> None:
        self._clock, self._progress = clock, progress
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = clock()

    def __call__(self, stage: str, fraction: float) -> None:
        if stage != self._stage:
            self.enter(stage)
        if self._progress:
            self._progress(stage, fraction)

    def enter(self, stage: str | None) -> None:
        """End the current stage and begin another, or none."""
        now = self._clock()
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now


def _grown(
    backend: Backend,
    sequence: Sequence,
    held: int,
    wanted: int,
    progress: Progress | None,
    clock: Clock,
) -> Run:
    """Add keyframes `held` to `wanted` and refine; return the measured figures."""
    for i in range(held, wanted):
        if i not in backend.store:
            backend.add(sequence.keyframes[i])
    timed, started = _Timed(clock, progress), clock()
    snapshot = backend.refine(
        progress=lambda stage, part: timed(
            "publish" if (stage, part) == ("memory", 1.0) else stage, part
        )
    )
    timed.enter(None)
    total = clock() - started
    seconds = dict(timed.seconds, total=total, without_solve=total - timed.seconds[SOLVE])
    return {"seconds": seconds, "peak_memory_mb": peak_mb(), "points": len(snapshot.cloud)}


def _row(count: int, runs: Items[Run]) -> Run:
    """Summarize the runs at one count."""
    return {
        "keyframes": count,
        "seconds": {
            name: median(run["seconds"][name] for run in runs) for name in runs[0]["seconds"]
        },
        "runs": runs,
        "peak_memory_mb": runs[-1]["peak_memory_mb"],
        "points": runs[-1]["points"],
    }


def _ratio(largest: float, smallest: float) -> float:
    return largest / smallest if smallest > 0 else float("nan")
