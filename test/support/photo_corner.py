"""The corner of a room papered with photographs, seen from a path along it: images with exact
depth and poses that any structure from motion should map.
"""

from functools import cache

import cv2
import numpy as np
from photographs import scaled
from scipy.spatial.transform import Rotation

from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(400, 300, 330.0, 330.0, 199.5, 149.5)
PIXELS_PER_METRE, SIDE_M = 160, 5.0
# (axis, where it is, the two axes along the wall): wall ahead, wall to the right, floor
WALLS = ((2, 3.0, (0, 1)), (0, 1.6, (2, 1)), (1, 1.3, (0, 2)))
PHOTOGRAPHS = "motorcycle_left.png", "coffee.png", "astronaut.png", "rocket.jpg", "ihc.png"


@cache
def paper(wall):
    """(side, side, 3) uint8: three by three photographs, no wall as another."""
    side = int(SIDE_M * PIXELS_PER_METRE) // 3
    rows = [
        [
            np.rot90(scaled(PHOTOGRAPHS[(4 * wall + 3 * i + j) % 5], side, side), i + j + wall)
            for j in range(3)
        ]
        for i in range(3)
    ]
    return np.vstack([np.hstack(row) for row in rows])


def view(T_world_cam, camera=CAMERA):
    """(image (height, width, 3) uint8, depth (height, width) float32 metres)."""
    y, x = np.indices((camera.height, camera.width))
    rays = camera.unproject(np.stack([x, y], -1), np.ones(x.shape)) @ T_world_cam[:3, :3].T
    centre, depth = T_world_cam[:3, 3], np.full(x.shape, np.inf)
    image = np.zeros((*x.shape, 3), np.uint8)
    for wall, (axis, where, along) in enumerate(WALLS):
        z = (where - centre[axis]) / np.where(rays[..., axis] > 1e-6, rays[..., axis], 1e-6)
        nearer = (rays[..., axis] > 1e-6) & (z < depth)
        at = (centre + z[..., None] * rays)[..., along] * PIXELS_PER_METRE + len(paper(wall)) / 2
        seen = cv2.remap(
            paper(wall), at.astype(np.float32), None, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT
        )
        image[nearer], depth[nearer] = seen[nearer], z[nearer]
    return image, np.where(np.isfinite(depth), depth, 0).astype(np.float32)


def pose(along):
    """T_world_cam at a place from 0 to 1 of the path."""
    rotation = Rotation.from_euler("yx", [35 * along - 10, -8 + 6 * np.sin(6 * along)], True)
    place = (1.2 * along - 0.8, 0.2 * np.sin(5 * along), 0.5 * along)
    return se3.from_rotation_translation(rotation.as_matrix(), np.array(place))


def sequence(keyframes=12, queries=3, drift=0.02):
    """Sequence along the path; the odometry goes `drift` metres astray from one to the next."""
    truth = np.array([pose(k / (keyframes - 1)) for k in range(keyframes)])
    rng = np.random.default_rng(0)
    odometry = truth.copy()
    odometry[:, :3, 3] += np.cumsum(rng.normal(0, drift, (keyframes, 3)), axis=0)
    stamps = 10**9 + 10**8 * np.arange(keyframes)
    asked = [
        pose((k + 0.6) / queries) @ se3.exp([0.05, 0.02, 0, 0, 0.03, 0]) for k in range(queries)
    ]
    return Sequence(
        "corner",
        CAMERA,
        stamps,
        KeyframeList(
            CAMERA, stamps, odometry, lambda i: view(truth[i])[0], lambda i: view(truth[i])[1]
        ),
        truth,
        [Query(10**12 + k, lambda T=T: view(T)[0], T) for k, T in enumerate(asked)],
    )
