"""What a few keyframes more cost a map that holds many already: seconds by stage and memory."""

import json
import os
import time
from contextlib import closing
from statistics import median

import psutil

from vggt3_ros.backend import Backend
from vggt3_ros.evaluation.cloud import surface_error
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.system.memory_use import peak_mb

SOLVE = "pose_graph"  # over everything there is


def measure_growth(
    sequence,
    store,
    building,
    measured,
    counts,
    add,
    repeat,
    batch,
    surfaces,
    kept,
    progress=None,
    clock=time.perf_counter,
):
    """Sequence, a KeyframeStore, BackendConfigs to get there and to be measured, ascending
    keyframe counts -> figures.

    The map grows `batch` keyframes a refinement to each count; then `repeat` times `add` keyframes
    are added and refined. Seconds are medians of these; the stage "publish" is what refine() takes
    after the last: to write the snapshot. peak_memory_mb: of the process and those it started, so
    far. surfaces: the exact ones, for the error of the last map. progress(stage, fraction). kept:
    path of a file for what was measured: with it and the store a run that was interrupted goes on.
    clock() -> seconds. ValueError for a sequence that is too short.
    """
    plan = _plan(counts, add, repeat, batch)
    if len(sequence) < plan[-1][0]:
        raise ValueError(
            f"{len(sequence)} keyframes are too few for {counts[-1]} and {repeat} times {add} more"
        )
    runs = json.loads(kept.read_text()) if kept.exists() else []
    with closing(Backend(store, building)) as backend:
        held = len(backend.snapshot) if backend.snapshot else 0
        if 0 < held < plan[-1][0]:
            backend.refine(progress=progress)  # what a process that went on would have in memory
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


def _plan(counts, add, repeat, batch):
    """[(keyframes after a refinement, the count that it is measured for or None), ...]."""
    plan, held = [], 0
    for count in counts:
        while held < count:
            held = min(held + batch, count)
            plan.append((held, None))
        for _ in range(repeat):
            held += add
            plan.append((held, count))
    return plan


def _settle(backend, config):
    """Another config from now on, and what was fused and distilled kept."""
    if backend.config is not config:
        backend.config = config
        backend.keeper = MemoryKeeper(backend.frames, config, backend.device)


def cpu_seconds():
    """Seconds of computing of this process and those it started: for a machine that others use
    too.
    """
    processes = [psutil.Process(os.getpid())]
    processes += processes[0].children(recursive=True)
    return sum(sum(process.cpu_times()[:2]) for process in processes)


class _Timed:
    """progress(stage, fraction) that adds up the seconds of each stage."""

    def __init__(self, clock, progress):
        self.seconds, self._clock, self._progress, self._stage = {}, clock, progress, None
        self._since = clock()

    def __call__(self, stage, fraction):
        if stage != self._stage:
            self.enter(stage)
        if self._progress:
            self._progress(stage, fraction)

    def enter(self, stage):
        now = self._clock()
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now


def _grown(backend, sequence, held, wanted, progress, clock):
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


def _row(count, runs):
    return {
        "keyframes": count,
        "seconds": {
            name: median(run["seconds"][name] for run in runs) for name in runs[0]["seconds"]
        },
        "runs": runs,
        "peak_memory_mb": runs[-1]["peak_memory_mb"],
        "points": runs[-1]["points"],
    }


def _ratio(largest, smallest):
    return largest / smallest if smallest > 0 else float("nan")
