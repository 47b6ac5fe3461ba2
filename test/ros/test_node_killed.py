"""The node, SIGKILLed at fifty random moments while keyframes stream and refinements run: nothing
acknowledged is lost.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from folders import SUPPORT, python_path
from random_keyframes import assert_same, make_keyframe

from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")
KILLS = 50


def test_fifty_kills_lose_no_acknowledged_keyframe_and_the_last_snapshot_is_in_force_at_once(
    tmp_path,
):
    environment = {**os.environ, "PYTHONPATH": python_path()}
    out = subprocess.run(
        [
            sys.executable,
            str(SUPPORT / "streaming_node.py"),
            str(tmp_path / "store"),
            str(KILLS),
            "7",
        ],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    lives = [json.loads(line) for line in out.stdout.splitlines()]
    assert len(lives) == KILLS, out.stderr[-2000:]
    acknowledged, generation, started = set(), 0, 0
    for life in lives:
        found = life["found"]
        if found is not None:  # else it was killed while it opened the store
            started += 1
            assert acknowledged <= set(found["ids"])
            assert found["generation"] >= generation  # none is forgotten
            # TF, before any new refinement
            np.testing.assert_allclose(found["T_map_frontend"], found["T_map_odom"], atol=1e-9)
            assert found["odom_frame"] == ("odom" if acknowledged else found["odom_frame"])
            generation = found["generation"]
        acknowledged |= set(life["acknowledged"])
    assert started > KILLS / 2 and generation >= 5 and len(acknowledged) > 200
    with KeyframeStore(tmp_path / "store") as store:
        assert acknowledged <= set(store.ids())
        for id in acknowledged:
            assert_same(store.get(id), make_keyframe(id))
        newest = max(int(path.name) for path in store.snapshots.glob("[0-9]" * 6))
        assert newest >= generation and len(Snapshot.load(store.snapshots / f"{newest:06d}")) > 0
