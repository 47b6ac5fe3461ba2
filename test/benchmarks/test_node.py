"""What the load benchmark says of figures. The run itself: integration/test_load.py."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from vggt3_ros.benchmarks import node as benchmark


def test_lost_keyframes_and_old_transforms_are_told():
    load = {
        "keyframes": 10,
        "rate": 1,
        "lost": 1,
        "refinements": 1,
        "refined": 9,
        "greatest_age": 0.3,
        "memory": {},
        "localize": {"p50": 0.1, "p95": 0.6, "localized": 1, "asked": 2},
    }
    rows = benchmark.table({"load": load, "ingest": {"per_second": 59.0}})
    missed = [what for what, *_, met in rows if met is False]
    assert missed == [
        "keyframes lost",
        "localize p95",
        "greatest age of map->odom",
        "ingest alone",
    ]


def test_memory_that_grows_is_seen():
    seconds = np.arange(0, 120, 0.5)
    curve = benchmark.memory_curve(
        np.stack([seconds, 100 + seconds / 60 * 5, np.full_like(seconds, 300)], axis=1)
    )
    assert abs(curve["node"]["slope"] - 5) < 1e-6 and abs(curve["worker"]["slope"]) < 1e-6
