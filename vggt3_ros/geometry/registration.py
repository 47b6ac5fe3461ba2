"""Depth registration: depth of one camera rendered into the image of another.

Each depth pixel is drawn as a patch, and the nearest patch wins, as in depth_image_proc's register
node. In addition the target's lens is modelled: depth is registered to its distorted image.
"""

import math

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, undistorted_rays
from vggt3_ros.geometry.se3 import Floats

NEAREST_M = 0.01
LARGEST_PATCH = 8  # pixels along a side; depth coarser than that leaves gaps
# Pixels are clipped to this many image widths: a lens polynomial is meaningless beyond.
OUTSIDE = 4


def registered_depth(
    depth: np.ndarray, depth_camera: Camera, camera: Camera, T_cam_depth: np.ndarray
) -> np.ndarray:
    """Register depth (h, w), metres along z of `depth_camera`, 0 where unknown, to the distorted
    image of `camera`: (height, width) float32, metres along its z, 0 where unknown.

    T_cam_depth (4, 4). Raises ValueError if the depth's size differs from its camera's.
    """
    if depth.shape != (depth_camera.height, depth_camera.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, but its camera_info says {depth_camera.width}x{depth_camera.height}"
        )
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0))
    z = depth[v, u].astype(float)
    rays = (
        undistorted_rays(depth_camera, np.stack([u, v], axis=-1).astype(float))
        if len(u)
        else np.zeros((0, 2))
    )
    points = se3.transform_points(T_cam_depth, np.column_stack([rays * z[:, None], z]))
    points = points[points[:, 2] > NEAREST_M]
    out = np.full((camera.height, camera.width), np.inf, np.float32)
    if not len(points):
        return np.zeros_like(out)
    pixels, z = distorted_pixels(camera, points), points[:, 2]
    # how many pixels of the target a pixel of the depth camera covers
    patch = min(
        LARGEST_PATCH,
        max(1, math.ceil(max(camera.fx / depth_camera.fx, camera.fy / depth_camera.fy) - 1e-3)),
    )
    corner = np.floor(pixels - (patch - 1) / 2 + 0.5).astype(np.int64)
    order = np.argsort(-z, kind="stable")  # nearest last, so that it overwrites the others
    corner, z = corner[order], z[order].astype(np.float32)
    for dy in range(patch):
        for dx in range(patch):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
            layer = np.full_like(out, np.inf)
            layer[y[inside], x[inside]] = z[inside]
            np.minimum(out, layer, out=out)
    return np.where(np.isfinite(out), out, 0)


def distorted_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Project points (N, 3) in front of the camera to pixels (N, 2) of its distorted image. Points
    outside the lens's field of view are mapped far outside the image.
    """
    points = np.ascontiguousarray(points, float)
    coefficients, none = np.array(camera.distortion, float), np.zeros(3)
    straight = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    pixels: Floats
    if camera.distortion_model == "equidistant":
        projected, _ = cv2.fisheye.projectPoints(
            points[:, None], none, none, straight, coefficients
        )
        pixels = np.array(projected[:, 0], float)
    else:
        projected, _ = cv2.projectPoints(points, none, none, straight, coefficients)
        pixels = np.array(projected[:, 0], float)
        # Beyond the edge of the image, the polynomial may fold points back into it.
        flat = np.abs(points[:, :2] / points[:, 2:] * (camera.fx, camera.fy))
        edge = _edge(camera)
        pixels = np.where((flat <= edge).all(axis=1)[:, None], pixels, -OUTSIDE * camera.width)
    pixels[:, 0] += camera.skew / camera.fy * (pixels[:, 1] - camera.cy)
    farthest = OUTSIDE * camera.width
    return np.nan_to_num(pixels, nan=-farthest).clip(-farthest, farthest)


def _edge(camera: Camera) -> np.ndarray:
    """Return the distances (2,) along x and y, in undistorted pixels from the principal point,
    beyond which nothing lies in the image.
    """
    x, y = np.linspace(-0.5, camera.width - 0.5, 9), np.linspace(-0.5, camera.height - 0.5, 9)
    border = np.concatenate(
        [
            np.stack(np.meshgrid(x, y[[0, -1]]), -1).reshape(-1, 2),
            np.stack(np.meshgrid(x[[0, -1]], y), -1).reshape(-1, 2),
        ]
    )
    rays = np.abs(undistorted_rays(camera, border)) * (camera.fx, camera.fy)
    known = rays[np.isfinite(rays).all(axis=1)]
    farthest: Floats = known.max(axis=0, initial=max(camera.width, camera.height) / 2)
    return 1.1 * farthest
