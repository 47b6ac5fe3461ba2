"""A network that knows the truth: ground-truth poses in an arbitrary Sim(3) frame with noise,
warping and outliers.
"""

import hashlib

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3
from vggt3_ros.network.preprocess import prepare_images
from vggt3_ros.network.values import DenseOutput, Predictions, SceneState


def room_tour(count=120, seed=0):
    """(count, 4, 4): a camera that walks twice round a room of 5 x 4 m, looking outwards, always
    moving.
    """
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4 * np.pi, count)
    centre = np.stack(
        [2.5 * np.cos(t), 2.0 * np.sin(t), 0.2 * np.sin(3 * t)], axis=1
    ) + 0.05 * rng.standard_normal(3)
    yaw = t + 0.3 * np.sin(2 * t)
    rotation = Rotation.from_euler(
        "zyx", np.stack([yaw, 0.2 * np.sin(t), 0.1 * np.cos(2 * t)], axis=1)
    )
    return se3.from_rotation_translation(rotation.as_matrix(), centre)


def corridor(count=60):
    """(count, 4, 4): a straight line of 12 m, looking ahead."""
    centre = np.zeros((count, 3))
    centre[:, 0] = np.linspace(0, 12, count)
    look_ahead = Rotation.from_euler("yx", [np.pi / 2, 0.0]).as_matrix()
    return se3.from_rotation_translation(np.tile(look_ahead, (count, 1, 1)), centre)


def stand_in(T_world_cam, scale, seed=0, noise_m=0.02, noise_rad=0.01, warp_m=0.05, outliers=0.2):
    """T_network_cam (N, 4, 4), confidence (N,), outlier mask (N,); `scale`: metres per unit of the
    network's frame.
    """
    rng = np.random.default_rng(seed)
    count = len(T_world_cam)
    noise = np.concatenate(
        [noise_m * rng.standard_normal((count, 3)), noise_rad * rng.standard_normal((count, 3))],
        axis=1,
    )
    phase = rng.uniform(0, 2 * np.pi, 3)
    noise[:, :3] += warp_m * np.sin(np.linspace(0, 2 * np.pi, count)[:, None] + phase)
    poses = T_world_cam @ se3.exp(noise)
    wrong = np.zeros(count, bool)
    wrong[1 + rng.permutation(count - 1)[: int(outliers * count)]] = True
    spread = T_world_cam[:, :3, 3].std()
    poses[wrong, :3, 3] += rng.standard_normal((wrong.sum(), 3)) * 2 * spread
    poses[wrong, :3, :3] = Rotation.random(wrong.sum(), rng=rng).as_matrix()
    frame = se3.from_rotation_translation(
        Rotation.random(rng=rng).as_matrix(), rng.standard_normal(3) * 3
    )
    poses = frame @ poses
    poses[:, :3, 3] /= scale
    return poses, np.where(wrong, 0.5, 1.0) * rng.uniform(0.8, 1.2, count), wrong


class StandInNetwork:
    """map() and query() as the network has them, answered with the truth as `stand_in` disturbs
    it: images are recognised by content.

    keyframes: with true depth; T_world_cam (N, 4, 4); scale: metres a unit; queries: images it
    knows too, with T_world_query; world_from_camera: what its poses are, as of a checkpoint
    trained that way; quality: further arguments of `stand_in`.
    """

    def __init__(
        self,
        keyframes,
        T_world_cam,
        scale,
        image_side,
        queries=(),
        T_world_query=(),
        seed=0,
        depth_noise=0.02,
        world_from_camera=False,
        **quality,
    ):
        self._world_from_camera = world_from_camera
        truth = np.concatenate([T_world_cam, np.reshape(T_world_query, (-1, 4, 4))])
        self.T_network_cam, _, self.wrong = stand_in(truth, scale, seed, **quality)
        images = [keyframe.image for keyframe in keyframes] + list(queries)
        self._rows = {
            _content(prepare_images([image], image_side)[0][0]): i
            for i, image in enumerate(images)
        }
        self._keyframes, self._scale, self._noise = keyframes, scale, depth_noise
        self.mapped, self.queried = [], []  # row numbers of each call

    def fingerprint(self):
        return "stand-in"

    def map(self, images, depth_frames=(), memory_limit=None, progress=None):
        rows = self._recognise(images)
        self.mapped.append(rows)
        progress.start(1)
        progress.advance(1, "stand-in")
        return self._answer(rows, images, depth_frames), SceneState(
            torch.zeros(1), torch.zeros(len(rows), 1), "stand-in"
        )

    def query(self, images, scene, depth_frames=(), memory_limit=None, progress=None):
        rows = self._recognise(images)
        self.queried.append(rows)
        return self._answer(rows, images, depth_frames)

    def _recognise(self, images):
        return [self._rows[_content(images[i : i + 1][0])] for i in range(len(images))]

    def _answer(self, rows, images, depth_frames):
        size = tuple(images[0:1].shape[2:])
        encoding = np.zeros((len(rows), 9), np.float32)
        T_network_cam = self.T_network_cam[rows]
        poses = T_network_cam if self._world_from_camera else se3.inverse(T_network_cam)
        camera = self._keyframes[0].camera
        encoding[:, :3] = poses[:, :3, 3]
        encoding[:, 3:7] = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
        encoding[:, 7:] = 2 * np.arctan(
            [camera.height / 2 / camera.fy, camera.width / 2 / camera.fx]
        )
        depth = None
        if len(depth_frames):
            maps = np.stack([self._depth(rows[frame], size) for frame in depth_frames])
            sure = np.where(maps > 0, 5.0, 1.0).astype(np.float32)
            depth = DenseOutput(
                tuple(depth_frames),
                torch.from_numpy(np.where(maps > 0, maps, 1.0).astype(np.float32)),
                torch.from_numpy(sure),
            )
        return Predictions(torch.from_numpy(encoding), size, depth)

    def _depth(self, row, size):
        """True depth with smooth errors, in units."""
        depth = cv2.resize(self._keyframes[row].depth, size[::-1], interpolation=cv2.INTER_NEAREST)
        bend = cv2.resize(
            np.random.default_rng(row).standard_normal((3, 4)).astype(np.float32),
            size[::-1],
            interpolation=cv2.INTER_CUBIC,
        )
        return depth / self._scale * (1 + self._noise * bend)


def _content(image):
    return hashlib.sha256(np.ascontiguousarray(image)).hexdigest()
