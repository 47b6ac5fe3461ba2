"""The node, killed at random moments while keyframes stream and refinements run, and what it
serves when it is started again.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import psutil

from vggt3_ros.ros.clients.processes import BACKEND, backend_process, tail, uncaught
from vggt3_ros.ros.load.harness import NAMESPACE, START_SECONDS, ros
from vggt3_ros.ros.load.stream import Stream
from vggt3_ros.ros.load.witness import STATES, Witness, differences
from vggt3_ros.store.snapshot import Snapshot

# keyframes that start a refinement, once what a restarted node serves has been looked at
EVERY = 3
# kills: so long after the start, and after what is served was looked at
EARLY_SECONDS, LATE_SECONDS = 3.0, 4.0
# so long a third of the lives wait for a refinement to complete, and are killed right after
REFINEMENT_SECONDS = 20.0
END_SECONDS = 10.0  # within which what the node started ends with it


@dataclass
class Lives:
    """What was seen in all lives of a node. wrong: in words, what should not have been."""

    kills: int = 0
    sent: int = 0
    acknowledged: set = field(default_factory=set)
    lost: set = field(default_factory=set)
    generation: int = 0
    looked_at: int = 0  # restarts that were not cut short by the next kill
    served: int = 0  # those of them where there was a snapshot to serve
    differing: int = 0  # those of them where something else was served
    # from the start of the process until all was served
    seconds: list = field(default_factory=list)
    moments: Counter = field(default_factory=Counter)
    wrong: list = field(default_factory=list)


def run(sequence, kills, rate, out, seed=0, backend=BACKEND, settings=None):
    """Lives of a node that is killed `kills` times. `rate`: keyframes a second; logs and the store
    go to `out`; backend: see backend_process; settings: more parameters of the node. RuntimeError
    when it does not come up.
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
    for life in range(kills + 1):  # the last one is only looked at
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


def newest(folder):
    """The newest Snapshot in a store's folder that can be read, or None."""
    for path in sorted((folder / "snapshots").glob("[0-9]" * 6), reverse=True):
        try:
            return Snapshot.load(path)
        except ValueError:
            continue
    return None


def _live(lives, witness, node, log, snapshot, rate, rng, kind):
    """Until the moment of the kill: kind "early": whatever it is at, "late": it works, "refined":
    it has just published a snapshot.
    """
    begin, looked = time.monotonic(), []
    generation = 0 if snapshot is None else snapshot.generation
    if generation < lives.generation:
        lives.wrong.append(
            f"generation {lives.generation} was heard of, the newest on disk is {generation}"
        )
    lives.generation = max(lives.generation, generation)
    witness.send_forever(lives.sent, rate)
    witness.start(lambda: looked.append(_look(lives, witness, snapshot, begin)))
    if kind == "early":
        time.sleep(rng.uniform(0.0, EARLY_SECONDS))
        return
    _until(lambda: looked, node, log, "what it serves")
    if kind == "late":
        time.sleep(rng.uniform(0.0, LATE_SECONDS))
    elif kind == "refined":
        patience_ends = time.monotonic() + REFINEMENT_SECONDS
        _until(
            lambda: (
                witness.status.generation > lives.generation or time.monotonic() > patience_ends
            ),
            node,
            log,
            "a refinement",
        )
        time.sleep(rng.uniform(0.0, 0.3))


def _until(condition, node, log, what):
    limit = time.monotonic() + START_SECONDS
    while not condition():
        if node.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"{what}: waited in vain, see {log}:\n{tail(log)}")
        time.sleep(0.01)


def _look(lives, witness, snapshot, begin):
    """Compare what a restarted node serves, before any new refinement, with the Snapshot and the
    keyframes it had.
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
    if not witness.set(refine_every_keyframes=EVERY) and not witness.closing.is_set():
        lives.wrong.append("refine_every_keyframes could not be set")


def _remember(lives, witness):
    lives.acknowledged |= set(witness.acknowledged_ids())
    lives.sent += len(witness.sent)
    if witness.status is not None:
        lives.generation = max(lives.generation, witness.status.generation)
        lives.wrong += (
            [f"refused: {witness.status.last_refusal}"] if witness.status.refused else []
        )


def _kill(lives, witness, node):
    """SIGKILL for the node; what it started must end of itself."""
    children = psutil.Process(node.pid).children(recursive=True)
    node.kill()
    node.wait()
    lives.kills += 1
    lives.moments[witness.status and witness.status.state] += 1
    alive = psutil.wait_procs(children, END_SECONDS)[1]
    if alive:
        lives.wrong.append(f"{len(alive)} processes outlived the node")


def as_dict(lives):
    """Lives as plain numbers: kills, sent, acknowledged, lost, looked_at, served, differing,
    seconds_median and seconds_most (from the start until all was served), snapshots, wrong.
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


def table(lives):
    """Rows (what, measured, target, whether it is met)."""
    yield "the node was killed", f"{lives.kills} times", "", None
    for state, text in STATES.items():
        if lives.moments[state]:
            yield f"of them {text}", f"{lives.moments[state]}", "", None
    yield "keyframes acknowledged", f"{len(lives.acknowledged)} of {lives.sent} sent", "", None
    yield "acknowledged keyframes lost", f"{len(lives.lost)}", "0", not lives.lost
    yield (
        "starts looked at to the end, before the next kill",
        f"{lives.looked_at} of {lives.kills + 1}",
        "",
        None,
    )
    yield (
        "the last snapshot was served (path, poses, map, TF, localize)",
        (f"{lives.served - lives.differing} of {lives.served}"),
        "all",
        lives.served > lives.differing == 0,
    )
    seconds = lives.seconds or [np.nan]
    yield (
        "seconds from the start until all was served",
        f"{np.median(seconds):.1f}, at most {max(seconds):.1f}",
        "",
        None,
    )
    yield "snapshots published", f"{lives.generation}", "", None
    for text in lives.wrong:
        yield "wrong", text, "", False
