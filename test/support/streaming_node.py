"""Nodes without DDS (ros/core.py on the fake back end) that take keyframes and are killed at
random moments, each in a process of its own.

`python streaming_node.py FOLDER KILLS SEED` prints one JSON line a life: what it found at its
start and which keyframes it acknowledged. A forked process each, so that the imports are paid for
once.
"""

import json
import logging
import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
from random_keyframes import make_keyframe

from vggt3_ros.config import BackendConfig
from vggt3_ros.ros.conversions import from_keyframe
from vggt3_ros.ros.core import Core
from vggt3_ros.ros.node_config import NodeConfig


class Log(logging.LoggerAdapter):
    def process(self, message, options):
        options.pop("throttle_duration_sec", None)
        return message, options


def live(folder, out):
    """Until it is killed: each acknowledged keyframe is a line."""
    node = NodeConfig.from_flat(
        {
            "store": folder,
            "refine_every_keyframes": 3,
            "refine_every_seconds": 0.0,
            "idle_distillation": 1.0,
        }
    )
    parameters = SimpleNamespace(node=node, backend=BackendConfig.from_flat({"memory.steps": 2}))
    core = Core(
        parameters,
        "fake_backend:Backend",
        lambda *_: None,
        lambda *_: None,
        lambda: None,
        Log(logging.getLogger(), {}),
        time.time_ns,
    )
    snapshot = core.snapshot
    ids = core.store.ids()
    found = {
        "ids": ids,
        "generation": snapshot.generation if snapshot else 0,
        "odom_frame": core.intake.odom_frame,
        "T_map_frontend": np.ravel(core.T_map_frontend).tolist(),
        "T_map_odom": np.ravel(snapshot.T_map_odom).tolist()
        if snapshot
        else np.ravel(np.eye(4)).tolist(),
    }
    os.write(out, (json.dumps({"found": found}) + "\n").encode())
    core.resume()
    first = max(ids, default=-1) + 1
    for id in range(first, first + 10_000):
        if core.intake.take(from_keyframe(make_keyframe(id))):
            os.write(out, (json.dumps({"acknowledged": id}) + "\n").encode())
        # few enough in all that refining them stays quick
        time.sleep(0.01 if id < first + 15 else 0.5)


def generations(folder):
    return (
        max((int(name) for name in os.listdir(f"{folder}/snapshots") if name.isdigit()), default=0)
        if os.path.exists(f"{folder}/snapshots")
        else 0
    )


def main(folder, kills, seed):
    rng = np.random.default_rng(seed)
    for life in range(kills):
        before = generations(folder)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            live(folder, writing)
            os._exit(1)
        os.close(writing)
        time.sleep(rng.uniform(0.02, 0.6))
        if life % 3 == 0:  # its worker has started, refines, publishes
            limit = time.monotonic() + 20
            while generations(folder) <= before and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(reading) as lines:
            entries = [json.loads(line) for line in lines.read().split("\n")[:-1]]
        life = {
            "found": None,
            "acknowledged": [
                entry["acknowledged"] for entry in entries if "acknowledged" in entry
            ],
        }
        life |= {"found": entries[0]["found"]} if entries else {}
        print(json.dumps(life), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
