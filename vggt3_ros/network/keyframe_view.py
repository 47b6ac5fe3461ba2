"""The network applied to keyframes: undistorted images with known cameras in; poses and depth in
the network's own frame and scale out.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vggt3_ros.config import POSE_CONVENTIONS
from vggt3_ros.geometry.camera import Camera

from .checkpoint import load_checkpoint
from .device import pick_dtype
from .licences import licence_of
from .preprocess import network_size, prepare_images
from .progress import Progress
from .values import Predictions, SceneState
from .vggt3 import Vggt3

_PATCH = 14
Loader = Callable[[int], np.ndarray]  # index -> undistorted image (H, W, 3) uint8 RGB
Question = Callable[
    ["_Images", Sequence[int], Progress], tuple[Predictions, SceneState | None]
]  # (images, frames with depth, progress)
# relative error of a predicted focal length at which the confidence in its image halves
_FOCAL_SIGMA = 0.1


@dataclass(frozen=True, eq=False)
class NetworkView:
    """Network output for N images.

    T_network_cam: (N, 4, 4), NaN where there is none. confidence: (N,) in 0..1, agreement of the
    predicted field of view with the known camera. depth: {index: (depth (h, w) float32 along z in
    network units, confidence (h, w) above 1)} of the requested images. scene: the argument of
    ``place``; None if the network has no scene state. pose_convention: how the poses were
    interpreted, one of config.POSE_CONVENTIONS. metric: the network claims that its units are
    metres. given_poses: the network was given the odometry, so its poses are not independent
    evidence about it.
    """

    T_network_cam: np.ndarray
    confidence: np.ndarray
    depth: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    scene: SceneState | None = None
    pose_convention: str = POSE_CONVENTIONS[0]
    metric: bool = False
    given_poses: bool = False


class KeyframeViewer:
    """Map images, and place other images in the mapped scene.

    ``network``: a Vggt3, or an object with its map() and query(). ``load(index)`` returns an
    undistorted image (H, W, 3) uint8 RGB; ``cameras`` holds the vggt3_ros.Camera of each image.
    Images whose network size differs from that of the first are left out, because the network
    takes a single size. ``pose_convention``: what the network was trained to predict, one of
    config.POSE_CONVENTIONS. ``weights``: the name under which the weights were given.
    """

    def __init__(
        self, network: Vggt3, image_side: int = 518, memory_limit: int | None = None, pose_convention: str = POSE_CONVENTIONS[0],
        weights: str = "",
    ):  # fmt: skip
        self._network, self.pose_convention, self._weights = network, pose_convention, weights
        self._side = image_side - image_side % _PATCH
        self._memory_limit = memory_limit

    def fingerprint(self) -> str:
        """Return the identifier of the network, which its scene states carry."""
        return self._network.fingerprint()

    def prior(self) -> str:
        """Describe the network in one line: weights, device, dtype, licence."""
        device, dtype = (
            getattr(self._network, "device", "?"),
            str(getattr(self._network, "dtype", "?")).removeprefix("torch."),
        )
        return f"{self._weights or 'a custom network'} on {device}, {dtype}; {licence_of(self._weights)}"

    def map(
        self,
        load: Loader,
        cameras: Sequence[Camera],
        depth_of: Sequence[int],
        step: Callable[[float], None],
    ) -> NetworkView:
        """Map all images at once. ``step(fraction)`` may raise to stop.

        Raise NotEnoughMemory.
        """
        return self._see(
            load,
            cameras,
            depth_of,
            step,
            self._size(cameras[0]),
            lambda batch, frames, progress: self._network.map(
                batch, depth_frames=frames, memory_limit=self._memory_limit, progress=progress
            ),
        )

    def place(
        self,
        load: Loader,
        cameras: Sequence[Camera],
        depth_of: Sequence[int],
        step: Callable[[float], None],
        scene: SceneState,
    ) -> NetworkView:
        """Place other images in a mapped scene, each independently."""

        def ask(
            batch: _Images, frames: Sequence[int], progress: Progress
        ) -> tuple[Predictions, SceneState]:
            predictions = self._network.query(
                batch,
                scene,
                depth_frames=frames,
                memory_limit=self._memory_limit,
                progress=progress,
            )
            return predictions, scene

        return self._see(load, cameras, depth_of, step, self._size(cameras[0]), ask)

    def _size(self, camera: Camera) -> tuple[int, int]:
        return network_size(camera.height, camera.width, self._side)

    def _see(
        self,
        load: Loader,
        cameras: Sequence[Camera],
        depth_of: Sequence[int],
        step: Callable[[float], None],
        size: tuple[int, int],
        ask: Question,
    ) -> NetworkView:
        seen = [i for i, camera in enumerate(cameras) if self._size(camera) == size]
        wanted = set(depth_of)
        frames = [k for k, i in enumerate(seen) if i in wanted]
        progress = Progress(lambda fraction, stage: step(fraction))
        predictions, scene = ask(_Images(load, seen, size, self._side), frames, progress)

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
    """Images that are loaded when the network slices them, so that not all have to be in memory."""

    def __init__(self, load: Loader, indices: Sequence[int], size: tuple[int, int], side: int):
        self._load, self._indices, self._size, self._side = load, indices, size, side

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, part: slice) -> torch.Tensor:
        chosen = self._indices[part]
        out = torch.empty(len(chosen), 3, *self._size, dtype=torch.uint8)
        for row, index in enumerate(chosen):
            out[row] = prepare_images([self._load(index)], self._side)[0][0]
        return out


def field_of_view_agreement(predicted: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Return the agreement (N,) in 0..1 of predicted with known fields of view; 0 where a
    prediction is not usable.

    predicted: (N, 2) tangents of half the vertical and horizontal field of view.
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
    """Return the network of a checkpoint. The last one is cached: a changed parameter makes a new
    back end, not a new network.

    ``dtype``: "auto" or the name of a torch dtype. Raise CheckpointError.
    """
    chosen = pick_dtype(device) if dtype == "auto" else getattr(torch, dtype)
    return load_checkpoint(checkpoint, device, chosen)
