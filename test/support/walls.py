"""A wall seen by a depth camera, and whether two maps show the same one."""

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
COLOR = (200, 40, 90)


def wall(distance, pose, id=0, depth=True, camera=CAMERA):
    """A keyframe that sees a wall z = distance in map from `pose` (looking roughly along z)."""
    y, x = np.indices((camera.height, camera.width))
    rays = camera.unproject(np.stack([x, y], -1), np.ones((camera.height, camera.width)))
    turned = rays @ pose[:3, :3].T
    known = (distance - pose[2, 3]) / turned[..., 2]
    image = np.full((camera.height, camera.width, 3), COLOR, np.uint8)
    return Keyframe(id, id, image, camera, pose, known.astype(np.float32) if depth else None)


POSES = [se3.exp([0.05 * k, 0, 0, 0, 0.03 * k, 0.02 * k]) for k in range(6)]


def same_surface(cloud, expected, voxel=0.04):
    """As many points, in the same places to a hundredth of a voxel, as sure."""
    assert len(cloud) == len(expected) > 0
    distance, nearest = cKDTree(expected.points).query(cloud.points)
    assert distance.max() < voxel / 100 and len(np.unique(nearest)) == len(expected)
    np.testing.assert_allclose(cloud.confidence, expected.confidence[nearest], atol=1e-6)
    assert np.abs(cloud.colors.astype(int) - expected.colors[nearest]).max() <= 1
