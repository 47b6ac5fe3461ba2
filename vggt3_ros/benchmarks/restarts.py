"""Kill the node at random moments while keyframes arrive and refinements run, and check what it
serves after each restart.
"""

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vggt3_ros.benchmarks.node import TableRow
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.ros.clients.processes import BACKEND, backend_process, tail, uncaught
from vggt3_ros.ros.load.harness import NAMESPACE, START_SECONDS, ros
from vggt3_ros.ros.load.stream import Stream
from vggt3_ros.ros.load.witness import STATES, Witness, differences
from vggt3_ros.store.snapshot import Snapshot

# New keyframes that trigger a refinement, set once the output of a restarted node has been checked.
REFINE_EVERY = 3
# Latest kill after the start, and after the output was checked, respectively.
EARLY_SECONDS, LATE_SECONDS = 3.0, 4.0
# A third of the lives wait this long for a refinement to complete, and are killed right after it.
REFINEMENT_SECONDS = 20.0
END_SECONDS = 10.0  # the node's child processes must end within this time


@dataclass
class Lives:
    """Observations over all lives of a node. wrong: descriptions of every violation."""

    kills: int = 0
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    generation: int = 0
    looked_at: int = 0  # restarts that were checked before the next kill
    served: int = 0  # those of them with a snapshot to serve
    differing: int = 0  # those of them whose output differed from the snapshot
    # from the start of the process until everything was served
    seconds: list[float] = field(default_factory=list)
    # state of the node at each kill, None if it was not known yet
    moments: Counter[int | None] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(
    sequence: Sequence,
    kills: int,
    rate: float,
    out: Path,
    seed: int = 0,
    backend: str = BACKEND,
    settings: Mapping[str, Any] | None = None,
) -> Lives:
    """Start a node, kill it, and repeat `kills` times. Returns its Lives.

    rate: keyframes per second. Logs and the store are written to `out`. backend: see
    backend_process. settings: further parameters of the node. Raises RuntimeError if it does not
    start.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    lives, rng, stream = Lives(), np.random.default_rng(seed), Stream(sequence)
    store, logs = out / "restarts_store", out / "restarts_logs"
    logs.mkdir(exist_ok=True)
    parameters = {
        "store": store,
        "map_folder": out / "maps",
        "refine_every_seconds": 0.0,
        **(settings or {}),
        "refine_every_keyframes": 0,
    }
    for life in range(kills + 1):  # the last one is only checked
        snapshot, log = newest(store), logs / f"{life:03d}.log"
        with ros() as context, backend_process(log, parameters, NAMESPACE, backend) as node:
            witness = Witness(context, stream)
            try:
                _live(
                    lives,
                    witness,
                    node,
                    log,
                    snapshot,
                    rate,
                    rng,
                    "last" if life == kills else ("early", "late", "refined")[life % 3],
                )
                if life < kills:
                    _kill(lives, witness, node)
                _remember(lives, witness)
            finally:
                witness.close()
        if uncaught(log):
            lives.wrong.append(f"an exception in {log}")
    return lives


def newest(folder: Path) -> Snapshot | None:
    """Return the newest readable Snapshot in a store's folder, or None."""
    for path in sorted((folder / "snapshots").glob("[0-9]" * 6), reverse=True):
        try:
            return Snapshot.load(path)
        except ValueError:
            continue
    return None


def _live(
    lives: Lives,
    witness: Witness,
    node: subprocess.Popen[bytes],
    log: Path,
    snapshot: Snapshot | None,
    rate: float,
    rng: np.random.Generator,
    kind: str,
) -> None:
    """Run a life until the moment of the kill.

    kind "early": at any moment after the start; "late": during normal operation; "refined": right
    after a snapshot was published; "last": when the output was checked.
    """
    begin, looked = time.monotonic(), threading.Event()
    generation = 0 if snapshot is None else snapshot.generation
    if generation < lives.generation:
        lives.wrong.append(
            f"generation {lives.generation} was published, but the newest on disk is {generation}"
        )
    lives.generation = max(lives.generation, generation)
    witness.send_forever(lives.sent, rate)

    def look() -> None:
        _look(lives, witness, snapshot, begin)
        looked.set()

    witness.start(look)
    if kind == "early":
        time.sleep(rng.uniform(0.0, EARLY_SECONDS))
        return
    _until(looked.is_set, node, log, "its output")
    if kind == "late":
        time.sleep(rng.uniform(0.0, LATE_SECONDS))
    elif kind == "refined":
        patience_ends = time.monotonic() + REFINEMENT_SECONDS
        _until(
            lambda: (
                (witness.status is not None and witness.status.generation > lives.generation)
                or time.monotonic() > patience_ends
            ),
            node,
            log,
            "a refinement",
        )
        time.sleep(rng.uniform(0.0, 0.3))


def _until(
    condition: Callable[[], object], node: subprocess.Popen[bytes], log: Path, what: str
) -> None:
    """Wait until condition(). Raises RuntimeError if the node ends or takes too long."""
    limit = time.monotonic() + START_SECONDS
    while not condition():
        if node.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"timed out waiting for {what}, see {log}:\n{tail(log)}")
        time.sleep(0.01)


def _look(lives: Lives, witness: Witness, snapshot: Snapshot | None, begin: float) -> None:
    """Compare the output of a restarted node, before any new refinement, with its Snapshot and its
    keyframes.
    """
    ids = witness.stored_ids()
    if ids is None:
        return  # killed before it answered
    lives.lost |= lives.acknowledged - ids
    if snapshot is not None:
        answer = witness.place(int(snapshot.keyframe_ids[-1]))
        while None in (witness.poses, witness.path, witness.cloud) or not witness.transforms:
            if witness.closing.wait(0.02):
                return
        if answer is None:
            return
        wrong = [
            f"generation {snapshot.generation}: {text}"
            for text in differences(witness, snapshot, answer)
        ]
        lives.wrong += wrong
        lives.served, lives.differing = lives.served + 1, lives.differing + bool(wrong)
        lives.seconds.append(time.monotonic() - begin)
    lives.looked_at += 1
    if not witness.set(refine_every_keyframes=REFINE_EVERY) and not witness.closing.is_set():
        lives.wrong.append("refine_every_keyframes could not be set")


def _remember(lives: Lives, witness: Witness) -> None:
    """Add the observations of one life."""
    lives.acknowledged |= set(witness.acknowledged_ids())
    lives.sent += len(witness.sent)
    if witness.status is not None:
        lives.generation = max(lives.generation, witness.status.generation)
        lives.wrong += (
            [f"refused: {witness.status.last_refusal}"] if witness.status.refused else []
        )


def _kill(lives: Lives, witness: Witness, node: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the node and check that its child processes end."""
    children = psutil.Process(node.pid).children(recursive=True)
    node.kill()
    node.wait()
    lives.kills += 1
    lives.moments[witness.status and witness.status.state] += 1
    alive = psutil.wait_procs(children, END_SECONDS)[1]
    if alive:
        lives.wrong.append(f"{len(alive)} processes outlived the node")


def as_dict(lives: Lives) -> dict[str, Any]:
    """Return Lives as JSON values: kills, sent, acknowledged, lost, looked_at, served, differing,
    seconds_median and seconds_most (from the start until everything was served), snapshots, wrong.
    """
    seconds = lives.seconds or [np.nan]
    return {
        "kills": lives.kills,
        "sent": lives.sent,
        "acknowledged": len(lives.acknowledged),
        "lost": len(lives.lost),
        "looked_at": lives.looked_at,
        "served": lives.served,
        "differing": lives.differing,
        "seconds_median": float(np.median(seconds)),
        "seconds_most": float(max(seconds)),
        "snapshots": lives.generation,
        "wrong": lives.wrong,
    }


def table(lives: Lives) -> Iterator[TableRow]:
    """Yield rows (what, measured, target, whether it is met; None without a target)."""
    yield "kills of the node", f"{lives.kills} times", "", None
    for state, text in STATES.items():
        if lives.moments[state]:
            yield f"of them {text}", f"{lives.moments[state]}", "", None
    yield "keyframes acknowledged", f"{len(lives.acknowledged)} of {lives.sent} sent", "", None
    yield "acknowledged keyframes lost", f"{len(lives.lost)}", "0", not lives.lost
    yield (
        "starts checked completely before the next kill",
        f"{lives.looked_at} of {lives.kills + 1}",
        "",
        None,
    )
    yield (
        "starts that served the last snapshot (path, poses, map, TF, localize)",
        (f"{lives.served - lives.differing} of {lives.served}"),
        "all",
        lives.served > lives.differing == 0,
    )
    seconds = lives.seconds or [np.nan]
    yield (
        "seconds from the start until everything was served",
        f"{np.median(seconds):.1f}, at most {max(seconds):.1f}",
        "",
        None,
    )
    yield "snapshots published", f"{lives.generation}", "", None
    for text in lives.wrong:
        yield "wrong", text, "", False
