"""The path of a hand-held camera through way points, the keyframes a front end would pick on it,
and poses off the path.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3

RATE = 30  # Hz
SPEED = 0.45  # m/s
TURN_SPEED = 32.0  # degrees/s
EYE_HEIGHT = 1.42
_NOTHING_NEARER = 0.3  # metres between the camera and any surface


def look(x, y, z, yaw, pitch=0.0, roll=0.0):
    """T_world_cam (..., 4, 4) of a camera (optical axes) at x, y, z, its view `yaw` degrees from
    x, `pitch` degrees up.
    """
    values = np.stack(
        np.broadcast_arrays(x, y, z, yaw, -np.asarray(pitch, float), roll), axis=-1
    ).astype(float)
    # forward-left-up turned into right-down-forward
    optical = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    rotation = (
        Rotation.from_euler("ZYX", values[..., 3:].reshape(-1, 3), degrees=True).as_matrix()
        @ optical
    )
    return se3.from_rotation_translation(
        rotation.reshape(values.shape[:-1] + (3, 3)), values[..., :3]
    )


def walk(way_points, seed=0):
    """Smooth motion through way points (x, y, yaw in degrees; each turns the short way round from
    the one before).

    Returns stamps_ns (n,) int64 and T_world_cam (n, 4, 4) at 30 Hz: walking pace, the head
    bobbing, nodding and tilting a little.
    """
    rng = np.random.default_rng([seed, 3])
    points = np.array(way_points, float)
    points[:, 2] = np.degrees(np.unwrap(np.radians(points[:, 2])))
    steps = np.diff(points, axis=0)
    duration = (
        np.maximum(np.hypot(steps[:, 0], steps[:, 1]) / SPEED, np.abs(steps[:, 2]) / TURN_SPEED)
        + 0.2
    )
    times = np.concatenate([[0], np.cumsum(duration)])
    t = np.arange(0, times[-1], 1 / RATE)
    x, y, yaw = _smooth(PchipInterpolator(times, points)(t), int(0.5 * RATE)).T
    sway = lambda amplitude, period: sum(
        amplitude * rng.uniform(0.3, 0.6) * np.sin(2 * np.pi * (t / (period * k) + rng.random()))
        for k in (0.61, 1.0, 1.83)
    )
    poses = look(
        x,
        y,
        EYE_HEIGHT + sway(0.02, 1.1) + sway(0.04, 9),
        yaw + sway(2.0, 5),
        -9 + sway(4.5, 7),
        sway(1.6, 4),
    )
    return np.round(t * 1e9).astype(np.int64), poses


def pick_keyframes(T_world_cam, distance=0.3, angle=13.5):
    """Indices of frames further than `distance` (m) or `angle` (degrees) from the one picked
    before, as front ends do.
    """
    picked = [0]
    for i, pose in enumerate(T_world_cam):
        motion = se3.inverse(T_world_cam[picked[-1]]) @ pose
        if np.linalg.norm(motion[:3, 3]) > distance or se3.rotation_angle(motion) > np.radians(
            angle
        ):
            picked.append(i)
    return np.array(picked)


def off_the_path(T_world_cam, count, scene, seed=0):
    """`count` poses spread along T_world_cam (n, 4, 4), each 0.1-0.4 m and 5-20 degrees away from
    the nearest of them, clear of all surfaces of `scene` and not facing one. Returns (count, 4,
    4).
    """
    rng = np.random.default_rng([seed, 4])
    poses = []
    for start in np.linspace(0, len(T_world_cam) - 1, count + 2)[1:-1]:
        for attempt in range(200):  # the first that fits; later ones look further along the path
            base = T_world_cam[min(int(start) + attempt // 20, len(T_world_cam) - 1)]
            # mostly sideways, sometimes up or down; few tilts
            axis = rng.standard_normal(3) * (0.5, 1.0, 0.2)
            turn = np.radians(rng.uniform(5, 20)) * axis / np.linalg.norm(axis)
            shift = rng.standard_normal(3) * (1, 1, 0.35)
            pose = base @ se3.exp(np.concatenate([np.zeros(3), turn]))
            pose[:3, 3] += rng.uniform(0.1, 0.4) * shift / np.linalg.norm(shift)
            if _fits(pose, T_world_cam, scene):
                poses.append(pose)
                break
        else:
            raise ValueError(
                f"no free pose near {T_world_cam[int(start), :3, 3].round(2)}: the path is too narrow for queries"
            )
    return np.array(poses)


def _fits(pose, path, scene):
    gap = np.linalg.norm(path[:, :3, 3] - pose[:3, 3], axis=-1)
    # 10 degrees count as 0.1 m
    nearest = path[np.argmin(gap + 0.6 * se3.rotation_angle(se3.inverse(path) @ pose))]
    away = np.linalg.norm(nearest[:3, 3] - pose[:3, 3])
    turned = np.degrees(se3.rotation_angle(se3.inverse(nearest) @ pose))
    if (
        not (0.1 <= away <= 0.4 and 5 <= turned <= 20)
        or scene.distance(pose[None, :3, 3])[0] < _NOTHING_NEARER
    ):
        return False
    if scene.blocked(nearest[None, :3, 3], pose[None, :3, 3])[0]:
        return False
    fan = np.stack(
        np.meshgrid(np.linspace(-0.5, 0.5, 7), np.linspace(-0.4, 0.4, 5), [1.0]), axis=-1
    ).reshape(-1, 3)
    return np.median(scene.cast(pose[:3, 3], fan @ pose[:3, :3].T).distance) > 1.0


def _smooth(values, half):
    """Moving average over 2 half + 1 samples, twice, the ends held."""
    kernel = np.ones(2 * half + 1) / (2 * half + 1)
    for _ in range(2):
        padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
        values = np.stack(
            [np.convolve(column, kernel, mode="valid") for column in padded.T], axis=-1
        )
    return values
