"""The path of a hand-held camera through way points, the keyframes that a front end would select
on it, and poses off the path.
"""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.geometry import se3

RATE = 30  # Hz
SPEED = 0.45  # m/s
TURN_SPEED = 32.0  # degrees/s
EYE_HEIGHT = 1.42  # metres
_NOTHING_NEARER = 0.3  # smallest distance in metres between the camera and any surface


Number = float | np.ndarray


def look(
    x: Number, y: Number, z: Number, yaw: Number, pitch: Number = 0.0, roll: Number = 0.0
) -> np.ndarray:
    """Return T_world_cam (..., 4, 4) of a camera (optical axes) at x, y, z in metres. It looks
    `yaw` degrees from the x axis and `pitch` degrees up.
    """
    values = np.stack(
        np.broadcast_arrays(x, y, z, yaw, -np.asarray(pitch, float), roll), axis=-1
    ).astype(float)
    # from forward-left-up to right-down-forward
    optical = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    rotation = (
        Rotation.from_euler("ZYX", values[..., 3:].reshape(-1, 3), degrees=True).as_matrix()
        @ optical
    )
    return se3.from_rotation_translation(
        rotation.reshape(values.shape[:-1] + (3, 3)), values[..., :3]
    )


def walk(
    way_points: Sequence[tuple[float, float, float]], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth motion through way points (x, y, yaw in degrees; each turn takes the shorter
    way), as stamps_ns (n,) int64 and T_world_cam (n, 4, 4) at 30 Hz.

    Walking pace, with slight bobbing, nodding and tilting of the head.
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

    def sway(amplitude: float, period: float) -> np.ndarray:
        waves = np.zeros(len(t))
        for k in (0.61, 1.0, 1.83):
            height = amplitude * rng.uniform(0.3, 0.6)
            waves = waves + height * np.sin(2 * np.pi * (t / (period * k) + rng.random()))
        return waves

    poses = look(
        x,
        y,
        EYE_HEIGHT + sway(0.02, 1.1) + sway(0.04, 9),
        yaw + sway(2.0, 5),
        -9 + sway(4.5, 7),
        sway(1.6, 4),
    )
    return np.round(t * 1e9).astype(np.int64), poses


def pick_keyframes(
    T_world_cam: np.ndarray, distance: float = 0.3, angle: float = 13.5
) -> np.ndarray:
    """Return the indices of frames further than `distance` (m) or `angle` (degrees) from the
    previous keyframe, as a front end selects them.
    """
    picked = [0]
    for i, pose in enumerate(T_world_cam):
        motion = se3.inverse(T_world_cam[picked[-1]]) @ pose
        if np.linalg.norm(motion[:3, 3]) > distance or se3.rotation_angle(motion) > np.radians(
            angle
        ):
            picked.append(i)
    return np.array(picked)


def off_the_path(T_world_cam: np.ndarray, count: int, scene: Scene, seed: int = 0) -> np.ndarray:
    """Return `count` poses (count, 4, 4) spread along T_world_cam (n, 4, 4), each 0.1-0.4 m and
    5-20 degrees from the nearest of them. They keep clear of all surfaces of `scene` and do not
    face one closely.

    Raise ValueError if the path is too narrow.
    """
    rng = np.random.default_rng([seed, 4])
    poses = []
    for start in np.linspace(0, len(T_world_cam) - 1, count + 2)[1:-1]:
        for attempt in range(200):  # take the first that fits; later attempts move along the path
            base = T_world_cam[min(int(start) + attempt // 20, len(T_world_cam) - 1)]
            # turn mostly sideways, sometimes up or down, rarely tilt
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


def _fits(pose: np.ndarray, path: np.ndarray, scene: Scene) -> bool:
    gap = np.linalg.norm(path[:, :3, 3] - pose[:3, 3], axis=-1)
    # weigh 10 degrees as 0.1 m
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
    return bool(np.median(scene.cast(pose[:3, 3], fan @ pose[:3, :3].T).distance) > 1.0)


def _smooth(values: np.ndarray, half: int) -> np.ndarray:
    """Apply a moving average over 2 half + 1 samples twice; the ends are held constant."""
    kernel = np.ones(2 * half + 1) / (2 * half + 1)
    for _ in range(2):
        padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
        values = np.stack(
            [np.convolve(column, kernel, mode="valid") for column in padded.T], axis=-1
        )
    return values
