"""A wall seen by a distorted stereo pair."""

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

# EuRoC's at half its size
LENS = Camera(376, 240, 229.0, 228.5, 183.0, 124.0, "plumb_bob", (-0.28, 0.07, 0.0002, 0.00002))
T_RIGHT_LEFT = se3.inverse(se3.exp(np.array([0.11, 0.001, -0.002, 0.01, -0.008, 0.006])))
# normal (not of unit length) and offset of the wall in the left camera: n . p = 2.5
WALL = np.array([0.1, -0.15, 1.0]), 2.5


def wall_seen_by(camera, T_camera_left, size=1200):
    """A textured wall as a distorted camera sees it: every pixel's ray, met with the wall."""
    texture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8), (0, 0), 2.0
    )
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    u, v = np.meshgrid(np.arange(camera.width, dtype=float), np.arange(camera.height, dtype=float))
    undistort = (
        cv2.fisheye.undistortPoints
        if camera.distortion_model == "equidistant"
        else cv2.undistortPoints
    )
    xy = undistort(
        np.dstack([u, v]).reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)
    ).reshape(*u.shape, 2)
    T_left_camera = se3.inverse(T_camera_left)
    rays = np.dstack([xy, np.ones(u.shape)]) @ T_left_camera[:3, :3].T
    centre = T_left_camera[:3, 3]
    normal, offset = WALL
    points = centre + rays * ((offset - centre @ normal) / (rays @ normal))[..., None]
    return cv2.remap(
        texture,
        (points[..., 0] * 150 + size / 2).astype(np.float32),
        (points[..., 1] * 150 + size / 2).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
