"""Which keyframe carries a map point, so that points move with keyframes.

A snapshot does not say which depth maps a fused point came from. The keyframe that looks at it
from nearest is taken: it sees the point in its image, before its camera.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

ASKED = 12  # keyframes that a point asks, the nearest in what they look at
SAMPLED = 2000  # points that say how far keyframes look
PIECE = 65_536  # points at a time


def reach(points: np.ndarray, T_map_cam: np.ndarray) -> float:
    """How far keyframes (N, 4, 4) look, metres: the median distance of points (M, 3) to the
    nearest of them; 1 without points.
    """
    if not len(points) or not len(T_map_cam):
        return 1.0
    some = points[:: max(1, len(points) // SAMPLED)]
    return max(float(np.median(cKDTree(T_map_cam[:, :3, 3]).query(some)[0])), 1e-3)


def attach(points: np.ndarray, T_map_cam: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Points (M, 3), keyframes (N, 4, 4), all in one frame, metres, and a Camera each -> (M,)
    int32: row of the keyframe that carries each point.

    Where none of those asked has the point in its image, the first is taken. Occlusion is not
    looked at.
    """
    if not len(T_map_cam):
        raise ValueError("there is no keyframe to attach points to")
    looked_at = T_map_cam[:, :3, 3] + reach(points, T_map_cam) * T_map_cam[:, :3, 2]
    tree, T_cam_map = cKDTree(looked_at), se3.inverse(T_map_cam)
    lens = np.array([(c.fx, c.fy, c.cx, c.cy, c.width, c.height) for c in cameras])
    pieces = [
        _attached(points[k : k + PIECE], tree, T_cam_map, lens)
        for k in range(0, len(points), PIECE)
    ]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)


def _attached(
    points: np.ndarray, tree: cKDTree, T_cam_map: np.ndarray, lens: np.ndarray
) -> np.ndarray:
    asked = min(ASKED, len(T_cam_map))
    near = tree.query(points, k=asked)[1].reshape(len(points), asked)
    best: np.ndarray = near[:, 0].astype(np.int32)
    depth = np.full(len(points), np.inf)
    for rows in near.T:
        x, y, z = (
            np.einsum("nij,nj->in", T_cam_map[rows, :3, :3], points) + T_cam_map[rows, :3, 3].T
        )
        fx, fy, cx, cy, width, height = lens[rows].T
        ahead = z > 1e-3
        z_safe = np.where(ahead, z, 1.0)
        u, v = fx * x / z_safe + cx, fy * y / z_safe + cy
        seen = ahead & (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
        nearer = seen & (z < depth)
        best[nearer], depth[nearer] = rows[nearer], z[nearer]
    return best
