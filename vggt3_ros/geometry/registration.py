"""Depth of one camera seen by another: each pixel as a patch of surface, the nearest in front.

As depth_image_proc's register does it, with the lens of the other camera: depth is registered to
the image as that camera saw it.
"""

import math

import cv2
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistorted_rays

NEAREST_M = 0.01
LARGEST_PATCH = 8  # pixels along a side: a depth camera that is coarser leaves gaps
# times the width of the image from its middle: what a lens' polynomial does beyond is no image
BENT = 4


def registered_depth(depth, depth_camera, camera, T_cam_depth):
    """(h, w) metres along z of `depth_camera`, 0 where unknown -> (height, width) float32 along z
    of `camera`, in its distorted pixels.

    T_cam_depth (4, 4). ValueError where the depth has another size than its camera.
    """
    if depth.shape != (depth_camera.height, depth_camera.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, its camera_info says {depth_camera.width}x{depth_camera.height}"
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
    # A pixel of the depth camera covers so many of this one.
    patch = min(
        LARGEST_PATCH,
        max(1, math.ceil(max(camera.fx / depth_camera.fx, camera.fy / depth_camera.fy) - 1e-3)),
    )
    corner = np.floor(pixels - (patch - 1) / 2 + 0.5).astype(np.int64)
    order = np.argsort(-z, kind="stable")  # the nearest is written last
    corner, z = corner[order], z[order].astype(np.float32)
    for dy in range(patch):
        for dx in range(patch):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
            layer = np.full_like(out, np.inf)
            layer[y[inside], x[inside]] = z[inside]
            np.minimum(out, layer, out=out)
    return np.where(np.isfinite(out), out, 0)


def distorted_pixels(camera, points):
    """Points (N, 3) in front of the camera -> pixels (N, 2) of the image as it saw them; far
    outside where its lens does not reach.
    """
    points, coefficients, none = (
        np.ascontiguousarray(points, float),
        np.array(camera.distortion, float),
        np.zeros(3),
    )
    straight = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    if camera.distortion_model == "equidistant":
        pixels = cv2.fisheye.projectPoints(points[:, None], none, none, straight, coefficients)[0][
            :, 0
        ]
    else:
        pixels = cv2.projectPoints(
            points, none, none, straight, coefficients if len(coefficients) else None
        )[0][:, 0]
        # Beyond the edge a polynomial may fold back into the image.
        flat = np.abs(points[:, :2] / points[:, 2:] * (camera.fx, camera.fy))
        edge = _edge(camera)
        pixels = np.where((flat <= edge).all(axis=1)[:, None], pixels, -BENT * camera.width)
    pixels[:, 0] += camera.skew / camera.fy * (pixels[:, 1] - camera.cy)
    return np.nan_to_num(pixels, nan=-BENT * camera.width).clip(
        -BENT * camera.width, BENT * camera.width
    )


def _edge(camera):
    """(2,) pixels from the principal point, without distortion, beyond which nothing lies in the
    image.
    """
    x, y = np.linspace(-0.5, camera.width - 0.5, 9), np.linspace(-0.5, camera.height - 0.5, 9)
    border = np.concatenate(
        [
            np.stack(np.meshgrid(x, y[[0, -1]]), -1).reshape(-1, 2),
            np.stack(np.meshgrid(x[[0, -1]], y), -1).reshape(-1, 2),
        ]
    )
    rays = np.abs(undistorted_rays(camera, border)) * (camera.fx, camera.fy)
    return 1.1 * rays[np.isfinite(rays).all(axis=1)].max(
        axis=0, initial=max(camera.width, camera.height) / 2
    )
