"""Key-value pairs of a smooth function, and a memory small enough for it."""

import numpy as np

from vggt3_ros.config import MemoryConfig

SMALL = MemoryConfig(steps=150, batch=256, learning_rate=3e-3)


def smooth_pairs(count=6000, inputs=32, seed=0, noise=0.05):
    """Features of any scale that change smoothly from point to point, in metres: a room of 6 x 5 x
    2.5 m far from the origin.
    """
    fixed, rng = np.random.default_rng(seed), np.random.default_rng([seed, count])
    waves, phases = fixed.normal(0, 2, (3, inputs)), fixed.uniform(0, 6, inputs)
    points = np.array([40, -20, 1]) + rng.uniform((0, 0, 0), (6, 5, 2.5), (count, 3))
    keys = 5 + 3 * np.cos(points @ waves + phases) + 3 * noise * rng.normal(size=(count, inputs))
    return keys.astype(np.float32), points.astype(np.float32)
