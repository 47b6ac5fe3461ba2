"""Pose graphs whose truth is known."""

import numpy as np
from round_trips import round_trip

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.pose_graph import Edge

STEP = np.array([0.02, 0.02, 0.02, 0.008, 0.008, 0.008])  # standard deviations of an odometry step
LOOP = np.array([0.01, 0.01, 0.01, 0.004, 0.004, 0.004])


def noisy_chain(truth, rng, deviation=STEP):
    steps = (
        se3.inverse(truth[:-1])
        @ truth[1:]
        @ se3.exp(rng.standard_normal((len(truth) - 1, 6)) * deviation)
    )
    poses = [truth[0]]
    for step in steps:
        poses.append(poses[-1] @ step)
    return np.array(poses)


def true_loop(truth, i, j, rng):
    motion = se3.inverse(truth[i]) @ truth[j] @ se3.exp(rng.standard_normal(6) * LOOP)
    return Edge(i, j, motion, np.diag(1 / LOOP**2))


def problem(seed, count=80):
    """Two rounds with drifting odometry and 50 true loops."""
    rng = np.random.default_rng(seed)
    truth = round_trip(count)
    odometry = noisy_chain(truth, rng)
    half = count // 2
    pairs = [
        (half + k, int(np.clip(k + rng.integers(-2, 3), 0, half - 1)))
        for k in rng.choice(half, 25, replace=False)
    ]
    pairs += [(int(i), int(i) - 3) for i in rng.choice(np.arange(5, count), 25, replace=False)]
    return (
        truth,
        odometry,
        np.tile(np.diag(STEP**2), (count, 1, 1)),
        [true_loop(truth, i, j, rng) for i, j in pairs],
        rng,
    )
