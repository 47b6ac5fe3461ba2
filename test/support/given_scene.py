"""A small Given with its Truth, made of noise: for tests of everything around the contenders."""

import numpy as np

from vggt3_ros.benchmarks.peers.given import Given, write_shot
from vggt3_ros.benchmarks.peers.preparing import Truth
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(32, 24, 30.0, 30.0, 15.5, 11.5)


def curve(count):
    """(count, 4, 4) poses on a curve in space."""
    steps = np.linspace(0, 3, count)
    poses = np.array([se3.exp(np.array([0, 0, 0, 0.1 * s, 0.3 * s, 0.2 * s])) for s in steps])
    poses[:, :3, 3] = np.stack([np.cos(steps), np.sin(steps), 0.3 * steps**2], axis=1)
    return poses


def make(folder, keyframes=8, queries=3, depth=True):
    """(Given, Truth) in a folder; the poses given are the true ones."""
    rng = np.random.default_rng(0)
    place = folder / "given"
    image = lambda: rng.integers(0, 255, (24, 32, 3), np.uint8)
    shots = [
        write_shot(
            place,
            f"images/{k}",
            10**9 + k * 10**8,
            image(),
            rng.uniform(1, 4, (24, 32)).astype(np.float32) if depth else None,
        )
        for k in range(keyframes)
    ]
    asked = [write_shot(place, f"queries/{k}", 10**12 + k, image()) for k in range(queries)]
    poses, true_queries = curve(keyframes), curve(keyframes)[:queries]
    true_queries[:, 1, 3] += 0.05
    given = Given(
        place,
        "noise",
        CAMERA,
        shots,
        list(range(keyframes)),
        asked,
        [[j for j in range(keyframes) if j != k] for k in range(keyframes)],
        [list(range(keyframes))] * queries,
        poses,
    )
    given.save()
    np.save(folder / "truth.npy", poses, allow_pickle=False)
    stamps = np.array([shot.stamp_ns for shot in shots], np.int64)
    return given, Truth(stamps, poses, true_queries, folder / "truth.npy", poses)
