"""A folder as save_map writes it, made up of random numbers, and a cloud far from its origin."""

import cv2
import numpy as np

from vggt3_ros.cli.main import main
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot

LENS = Camera(160, 120, 130.0, 131.0, 79.5, 60.5, "plumb_bob", (-0.2, 0.05, 0.001, -0.002))
OTHER = Camera(128, 96, 100.0, 100.0, 63.5, 47.5)
FAR = np.array([500_000.0, 4_600_000.0, 0.0])


def written_map(folder):
    """Five keyframes of two cameras and a snapshot with 3000 points. Returns the folder, the poses
    (5, 4, 4), stamps, ids and the PointMap.
    """
    rng = np.random.default_rng(0)
    poses = se3.exp(rng.normal(0, 0.6, (5, 6)))
    ids, stamps = np.array([0, 1, 2, 5, 9]), 1_700_000_000_000_000_123 + np.arange(5) * 10**9
    points = rng.uniform(-3, 3, (3000, 3)).astype(np.float32)
    cloud = PointMap(
        points, rng.integers(0, 256, (3000, 3), np.uint8), rng.random(3000, np.float32)
    )
    with KeyframeStore(folder) as store:
        for id, stamp, pose, camera in zip(
            ids.tolist(), stamps.tolist(), poses, (LENS, LENS, OTHER, LENS, OTHER)
        ):
            coarse = rng.integers(0, 256, (camera.height // 8, camera.width // 8, 3), np.uint8)
            image = cv2.resize(
                coarse, (camera.width, camera.height), interpolation=cv2.INTER_CUBIC
            )
            store.put(Keyframe(id, stamp, image, camera, pose))
        Snapshot(3, ids, stamps, poses, poses, np.tile(np.eye(6), (5, 1, 1)), (), cloud).save(
            store.snapshots / "000003"
        )
    return folder, poses, stamps, ids, cloud


def export(folder, *arguments):
    assert main(["export", str(folder), "--quiet", *map(str, arguments)]) == 0


def far_cloud(rng):
    return PointMap.around(
        FAR,
        rng.uniform(-3, 3, (50, 3)).astype(np.float32),
        rng.integers(0, 256, (50, 3), np.uint8),
        rng.random(50, np.float32),
    )
