"""A trajectory along x between a red box on its left and a blue one on its right."""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import PointMap, Snapshot

# a camera that looks along x, z up
LEVEL = se3.from_rotation_translation([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0, 0, 0])
RED, BLUE = (200, 0, 0), (0, 0, 200)


def snapshot(loops=()):
    poses = np.array([se3.exp([0.5 * k, 0, 0, 0, 0, 0]) @ LEVEL for k in range(5)])
    return Snapshot(
        1,
        np.arange(5),
        np.arange(5) * 10**9,
        poses,
        poses,
        np.tile(np.eye(6), (5, 1, 1)),
        tuple(loops),
        boxes(),
    )


def boxes():
    """A red box left of the way, a blue one right of it."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [
            rng.uniform(-0.3, 0.3, (4000, 3)) + (1, 1.5, 0),
            rng.uniform(-0.3, 0.3, (4000, 3)) + (1, -1.5, 0),
        ]
    )
    return PointMap(
        points.astype(np.float32),
        np.repeat([RED, BLUE], 4000, axis=0).astype(np.uint8),
        np.ones(8000, np.float32),
    )
