"""Which cameras see most of what another one sees, by their poses alone."""

import numpy as np

from vggt3_ros.geometry import se3


def near_pose(T_map_cam, pose, count, exclude):
    """The `count` keyframes that see most of what `pose` (4, 4) sees, by distance and viewing
    direction; indices, best first.
    """
    distance = np.linalg.norm(T_map_cam[:, :3, 3] - pose[:3, 3], axis=1)
    angle = se3.rotation_angle(se3.inverse(pose) @ T_map_cam)
    # A radian of turn costs as much overlap as about a metre and a half of motion at room scale.
    order = np.argsort(distance + 1.5 * angle)
    return [int(i) for i in order if i not in exclude][:count]
