"""Depth Anything 3 (arXiv 2511.10647): accepts poses together with intrinsics. Needs the package
`depth_anything_3`.

Interface: github.com/ByteDance-Seed/Depth-Anything-3, DepthAnything3.inference. It takes a list of
images, camera-from-world extrinsics, and intrinsics in pixels of those images. It returns the
same, with z depth and confidence 1 + exp(x). Except for the nested models, its scale is arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from vggt3_ros.adapters.contract import Answer, Seen, View
from vggt3_ros.adapters.torch_device import array, describe, pick
from vggt3_ros.network.licences import licence_of

# Apache-2.0, like DA3-SMALL; the larger models are not for commercial use
DEFAULT = "depth-anything/DA3-BASE"


class _Prediction(Protocol):
    """Result of DepthAnything3.inference for N images, each a tensor or an array.

    extrinsics: [N, 3 or 4, 4] camera from world. depth: [N, h, w]. intrinsics: [N, 3, 3]. conf:
    [N, h, w]. sky: [N, h, w], true in the sky.
    """

    extrinsics: torch.Tensor | np.ndarray
    depth: torch.Tensor | np.ndarray
    intrinsics: torch.Tensor | np.ndarray | None
    conf: torch.Tensor | np.ndarray | None
    sky: torch.Tensor | np.ndarray | None
    is_metric: bool


class DepthAnything3:
    """Adapter of Depth Anything 3. weights: a hub id or a folder, by default DEFAULT."""

    name, patch = "Depth Anything 3", 14
    takes: tuple[str, ...] = ("intrinsics", "poses")

    def __init__(self, weights: str = "", device: str = "auto", dtype: str = "auto") -> None:
        from depth_anything_3.api import DepthAnything3 as Network

        self.weights = weights or DEFAULT
        self.licence = licence_of(self.weights)
        self._device, chosen = pick(device, dtype)
        self.device, _ = describe(self._device, chosen)
        self.dtype = "half precision by autocast"  # the network's own choice
        self._network = Network.from_pretrained(self.weights).to(device=self._device)

    def __call__(self, views: Sequence[View], progress: Callable[[float], None]) -> Answer:
        progress(0.0)
        given: dict[str, np.ndarray] = {}
        poses = [view.T_world_cam for view in views if view.T_world_cam is not None]
        matrices = [view.intrinsics for view in views if view.intrinsics is not None]
        if len(poses) == len(matrices) == len(views):
            given = {
                "extrinsics": np.linalg.inv(np.array(poses)).astype(np.float32),
                "intrinsics": np.array(matrices, np.float32),
            }
        prediction = self._network.inference([view.image for view in views], process_res=max(views[0].image.shape[:2]),
                                             process_res_method="upper_bound_resize", **given)  # fmt: skip
        return Answer(
            [self._seen(prediction, i, view) for i, view in enumerate(views)],
            "camera_from_world",
            bool(prediction.is_metric),
        )

    @staticmethod
    def _seen(prediction: _Prediction, index: int, view: View) -> Seen:
        pose = np.eye(4)
        pose[:3] = array(prediction.extrinsics)[index][:3]
        depth = array(prediction.depth)[index]
        intrinsics = None
        if prediction.intrinsics is not None:  # in pixels of the resized image
            (height, width), (rows, columns) = view.image.shape[:2], depth.shape
            intrinsics = (
                np.diag([width / columns, height / rows, 1.0])
                @ array(prediction.intrinsics)[index]
            )
        if not view.dense:
            return Seen(pose, intrinsics)
        confidence = (
            np.full(depth.shape, 2.0) if prediction.conf is None else array(prediction.conf)[index]
        )
        if prediction.sky is not None:
            depth = np.where(array(prediction.sky)[index], 0, depth)
        return Seen(pose, intrinsics, depth, confidence)
