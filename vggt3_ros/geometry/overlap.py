"""Select the cameras that overlap most with a given one, from poses alone."""

from collections.abc import Container

import numpy as np

from vggt3_ros.geometry import se3


def near_pose(
    T_map_cam: np.ndarray, pose: np.ndarray, count: int, exclude: Container[int]
) -> list[int]:
    """Return the indices of the `count` poses of T_map_cam (N, 4, 4) that view most of what `pose`
    (4, 4) views, best first, judged by distance and viewing direction. Indices in `exclude` are
    left out.
    """
    distance = np.linalg.norm(T_map_cam[:, :3, 3] - pose[:3, 3], axis=1)
    angle = se3.rotation_angle(se3.inverse(pose) @ T_map_cam)
    # At room scale, turning by a radian loses as much overlap as moving by about 1.5 m.
    order = np.argsort(distance + 1.5 * angle)
    return [int(i) for i in order if i not in exclude][:count]
