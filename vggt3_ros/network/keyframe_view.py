"""The network on keyframes: undistorted images with known cameras in; poses and depth in the
network's own frame and scale out.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vggt3_ros.config import POSE_CONVENTIONS

from .checkpoint import load_checkpoint
from .device import pick_dtype
from .licences import licence_of
from .preprocess import network_size, prepare_images
from .progress import Progress
from .values import Predictions, SceneState
from .vggt3 import Vggt3

_PATCH = 14
# error of a predicted focal length, relative, that halves the confidence in its image
_FOCAL_SIGMA = 0.1


@dataclass(frozen=True, eq=False)
class NetworkView:
    """What the network makes of N images.

    T_network_cam: (N, 4, 4), NaN where it says nothing. confidence: (N,) in 0..1, how well the
    predicted field of view agrees with the known camera. depth: index -> (depth (h, w) float32
    along z in network units, confidence (h, w) above 1), of the images that were asked for. scene:
    what ``place`` asks; None for a network that keeps none. pose_convention: how the network's
    poses were read, one of config.POSE_CONVENTIONS. metric: the network claims that its units are
    metres. given_poses: it was given the odometry, so that its poses are no second opinion on
    that.
    """

    T_network_cam: np.ndarray
    confidence: np.ndarray
    depth: dict = field(default_factory=dict)
    scene: SceneState | None = None
    pose_convention: str = POSE_CONVENTIONS[0]
    metric: bool = False
    given_poses: bool = False


class KeyframeViewer:
    """Maps images, and places others beside them. ``network``: Vggt3 or what has its map() and
    query().

    ``load(index)`` gives an undistorted image (H, W, 3) uint8 RGB, ``cameras`` the
    vggt3_ros.Camera of each. Images whose shape differs from the first one's are left out: the
    network takes one size. ``pose_convention``: what the network was trained to predict, one of
    config.POSE_CONVENTIONS. ``weights``: by which name they were given.
    """

    def __init__(
        self, network: Vggt3, image_side: int = 518, memory_limit: int | None = None, pose_convention: str = POSE_CONVENTIONS[0],
        weights: str = "",
    ):  # fmt: skip
        self._network, self.pose_convention, self._weights = network, pose_convention, weights
        self._side = image_side - image_side % _PATCH
        self._memory_limit = memory_limit

    def fingerprint(self) -> str:
        """Of the network: whose scenes it can be asked about."""
        return self._network.fingerprint()

    def prior(self) -> str:
        """The network for people: weights, where and in which numbers, licence."""
        device, dtype = (
            getattr(self._network, "device", "?"),
            str(getattr(self._network, "dtype", "?")).removeprefix("torch."),
        )
        return f"{self._weights or 'a network that was handed over'} on {device}, {dtype}; {licence_of(self._weights)}"

    def map(
        self,
        load: Callable,
        cameras: Sequence,
        depth_of: Sequence[int],
        step: Callable[[float], None],
    ) -> NetworkView:
        """View of all images at once; ``step(fraction)`` may raise to stop. Raises
        NotEnoughMemory.
        """
        return self._see(
            load,
            cameras,
            depth_of,
            step,
            self._size(cameras[0]),
            lambda batch, options: self._network.map(batch, **options),
        )

    def place(
        self,
        load: Callable,
        cameras: Sequence,
        depth_of: Sequence[int],
        step: Callable[[float], None],
        scene: SceneState,
    ) -> NetworkView:
        """View of other images of a mapped scene, each on its own."""

        def ask(batch: _Images, options: dict) -> tuple[Predictions, SceneState]:
            return self._network.query(batch, scene, **options), scene

        return self._see(load, cameras, depth_of, step, self._size(cameras[0]), ask)

    def _size(self, camera) -> tuple[int, int]:
        return network_size(camera.height, camera.width, self._side)

    def _see(self, load, cameras, depth_of, step, size, ask) -> NetworkView:
        seen = [i for i, camera in enumerate(cameras) if self._size(camera) == size]
        wanted = set(depth_of)
        frames = [k for k, i in enumerate(seen) if i in wanted]
        progress = Progress(lambda fraction, stage: step(fraction))
        options = {
            "depth_frames": frames,
            "memory_limit": self._memory_limit,
            "progress": progress,
        }
        predictions, scene = ask(_Images(load, seen, size, self._side), options)

        T_network_cam, confidence = np.full((len(cameras), 4, 4), np.nan), np.zeros(len(cameras))
        reverse = self.pose_convention == "world_from_camera"
        T_network_cam[seen] = (
            predictions.T_camera_world if reverse else predictions.T_world_camera
        ).numpy()
        tangents = np.tan(predictions.pose_encoding[:, 7:].double().numpy() / 2)
        confidence[seen] = field_of_view_agreement(tangents, [cameras[i] for i in seen])
        depth = {}
        if predictions.depth is not None:
            rows = zip(
                predictions.depth.frames,
                predictions.depth.values.numpy(),
                predictions.depth.confidence.numpy(),
                strict=True,
            )
            depth = {seen[frame]: (values, sure) for frame, values, sure in rows}
        return NetworkView(T_network_cam, confidence, depth, scene, self.pose_convention)


class _Images:
    """Images loaded when the network slices them, so that they need not all be held."""

    def __init__(self, load: Callable, indices: Sequence[int], size: tuple[int, int], side: int):
        self._load, self._indices, self._size, self._side = load, indices, size, side

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, part: slice) -> torch.Tensor:
        chosen = self._indices[part]
        out = torch.empty(len(chosen), 3, *self._size, dtype=torch.uint8)
        for row, index in enumerate(chosen):
            out[row] = prepare_images([self._load(index)], self._side)[0][0]
        return out


def field_of_view_agreement(predicted: np.ndarray, cameras: Sequence) -> np.ndarray:
    """(N,) in 0..1, of tangents (N, 2) of half the predicted fields of view, vertical and
    horizontal; 0 where the prediction is none.
    """
    known = (
        np.array([[camera.height / camera.fy, camera.width / camera.fx] for camera in cameras]) / 2
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(np.log(predicted / known)).max(axis=1)
        agreement = 1 / (1 + np.square(error / _FOCAL_SIGMA))
    return np.where(np.isfinite(error), agreement, 0.0)


@functools.lru_cache(maxsize=1)
def load_network(checkpoint: str, device: str, dtype: str) -> Vggt3:
    """The network of a checkpoint, kept: a changed parameter makes a new back end, not a new
    network. Raises CheckpointError.
    """
    chosen = pick_dtype(device) if dtype == "auto" else getattr(torch, dtype)
    return load_checkpoint(checkpoint, device, chosen)
