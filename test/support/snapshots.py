"""A snapshot made up of arrays."""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot


def make(count=5, points=40, seed=0):
    rng = np.random.default_rng(seed)
    loops = (
        Loop(
            4,
            0,
            True,
            "",
            "proximity",
            55,
            se3.exp(rng.normal(size=6)),
            np.diag(rng.uniform(1, 9, 6)),
            0.01,
            0.002,
        ),
        Loop(3, 0, False, "fewer than 30 matches agree on a motion", "place", 0),
        Loop(
            4,
            1,
            True,
            "",
            "memory",
            99,
            se3.exp(rng.normal(size=6)),
            np.diag(rng.uniform(1, 9, 6)),
            0.03,
            0.004,
        ),
    )
    cloud = PointMap(
        rng.normal(size=(points, 3)).astype(np.float32),
        rng.integers(0, 256, (points, 3), np.uint8),
        rng.random(points, np.float32),
    )
    return Snapshot(
        7,
        np.arange(count) * 10,
        10**18 + np.arange(count),
        se3.exp(rng.normal(size=(count, 6))),
        se3.exp(rng.normal(size=(count, 6))),
        np.tile(np.eye(6), (count, 1, 1)) * rng.random((count, 1, 1)),
        loops,
        cloud,
        {"features": 1.5, "total": 2.0},
        {"keyframes": count, "memory_error_m": float("nan")},
    )
