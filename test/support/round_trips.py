"""Paths of cameras for tests."""

import numpy as np
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3


def poses(positions, yaw_deg):
    """Cameras (optical axes) at (N, 3) positions that look along x turned by yaw, upright."""
    level = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    return se3.from_rotation_translation(
        (Rotation.from_rotvec(np.outer(np.radians(yaw_deg), [0, 0, 1])) * level).as_matrix(),
        positions,
    )


def round_trip(count=40, radius=2.0, rounds=2):
    angle = np.linspace(0, rounds * 2 * np.pi, count)
    return poses(
        np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)]),
        np.degrees(angle) + 90,
    )
