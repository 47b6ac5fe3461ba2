"""A network that knows the truth: ground-truth poses in an arbitrary Sim(3) frame with noise, warping and outliers."""

import numpy as np
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3


def room_tour(count=120, seed=0):
    """(count, 4, 4): a camera that walks twice round a room of 5 x 4 m, looking outwards, always moving."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4 * np.pi, count)
    centre = np.stack([2.5 * np.cos(t), 2.0 * np.sin(t), 0.2 * np.sin(3 * t)], axis=1) + 0.05 * rng.standard_normal(3)
    yaw = t + 0.3 * np.sin(2 * t)
    rotation = Rotation.from_euler("zyx", np.stack([yaw, 0.2 * np.sin(t), 0.1 * np.cos(2 * t)], axis=1))
    return se3.from_rotation_translation(rotation.as_matrix(), centre)


def corridor(count=60):
    """(count, 4, 4): a straight line of 12 m, looking ahead."""
    centre = np.zeros((count, 3))
    centre[:, 0] = np.linspace(0, 12, count)
    look_ahead = Rotation.from_euler("yx", [np.pi / 2, 0.0]).as_matrix()
    return se3.from_rotation_translation(np.tile(look_ahead, (count, 1, 1)), centre)


def stand_in(T_world_cam, scale, seed=0, noise_m=0.02, noise_rad=0.01, warp_m=0.05, outliers=0.2):
    """T_network_cam (N, 4, 4), confidence (N,), outlier mask (N,); `scale`: metres per unit of the network's frame."""
    rng = np.random.default_rng(seed)
    count = len(T_world_cam)
    noise = np.concatenate([noise_m * rng.standard_normal((count, 3)), noise_rad * rng.standard_normal((count, 3))], axis=1)
    phase = rng.uniform(0, 2 * np.pi, 3)
    noise[:, :3] += warp_m * np.sin(np.linspace(0, 2 * np.pi, count)[:, None] + phase)
    poses = T_world_cam @ se3.exp(noise)
    wrong = np.zeros(count, bool)
    wrong[1 + rng.permutation(count - 1)[:int(outliers * count)]] = True
    spread = T_world_cam[:, :3, 3].std()
    poses[wrong, :3, 3] += rng.standard_normal((wrong.sum(), 3)) * 2 * spread
    poses[wrong, :3, :3] = Rotation.random(wrong.sum(), rng=rng).as_matrix()
    frame = se3.from_rotation_translation(Rotation.random(rng=rng).as_matrix(), rng.standard_normal(3) * 3)
    poses = frame @ poses
    poses[:, :3, 3] /= scale
    return poses, np.where(wrong, 0.5, 1.0) * rng.uniform(0.8, 1.2, count), wrong
