"""Sessions of a front end that drift, and how far the map is off."""

import numpy as np

from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3

QUICK = {"device": "cpu", "map.voxel_size": 0.06}
ELSEWHERE = se3.exp([5.0, -7.0, 1.0, 0.1, -0.3, 2.1])  # of the second run's odometry frame


def drifted(poses, ate_per_step=0.004):
    """Odometry of a run: its own frame, and an error that grows."""
    steps = [
        se3.exp([ate_per_step * k, -0.5 * ate_per_step * k, 0, 0, 0, 0.001 * k])
        for k in range(len(poses))
    ]
    return np.array([ELSEWHERE @ pose @ step for pose, step in zip(poses, steps)])


def error_of(T_map_cam, first_truth, second_truth):
    """Root mean square distance of the second run's keyframes from the truth, where the first
    run's are aligned to it, metres.
    """
    T_truth_map = trajectory_error(
        T_map_cam[: len(first_truth)], first_truth, np.arange(len(first_truth)) * 10**9
    ).T_truth_estimate
    apart = (T_truth_map @ T_map_cam[len(first_truth) :])[:, :3, 3] - second_truth[:, :3, 3]
    return float(np.sqrt((apart**2).sum(axis=1).mean()))
