"""MapAnything (arXiv 2509.13414): accepts intrinsics, depth and poses; its output is metric. Needs
the package `mapanything`.

Interface: github.com/facebookresearch/map-anything, MapAnything.infer. It takes views with images
normalised for DINOv2, camera-to-world poses and z depth. It returns camera-to-world poses, z
depth, confidence 1 + exp(x), and a mask of the unambiguous pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from vggt3_ros.adapters.contract import Answer, Seen, View
from vggt3_ros.adapters.torch_device import array, describe, normalised, pick, stacked
from vggt3_ros.network.licences import MAP_ANYTHING, licence_of

# confidence of pixels that the network's mask marks as ambiguous or on an edge
NOT_SURE = 1.0
AMP = {torch.bfloat16: "bf16", torch.float16: "fp16"}


class MapAnything:
    """Adapter of MapAnything. weights: a hub id or a folder; by default those under Apache-2.0."""

    name, patch = "MapAnything", 14
    takes: tuple[str, ...] = ("intrinsics", "depth", "poses")

    def __init__(self, weights: str = "", device: str = "auto", dtype: str = "auto") -> None:
        from mapanything.models import MapAnything as Network

        self.weights = weights or MAP_ANYTHING.hub_id
        self.licence = licence_of(self.weights)
        self._device, self._dtype = pick(device, dtype)
        self.device, self.dtype = describe(self._device, self._dtype)
        self._network = Network.from_pretrained(self.weights).to(self._device).eval()

    def __call__(self, views: Sequence[View], progress: Callable[[float], None]) -> Answer:
        progress(0.0)
        images = normalised(stacked(views))
        batch = [self._view(image[None], view) for image, view in zip(images, views)]
        autocast = (
            {"use_amp": True, "amp_dtype": AMP[self._dtype]}
            if self._dtype in AMP
            else {"use_amp": False}
        )
        predictions = self._network.infer(
            batch, memory_efficient_inference=True, apply_mask=True, mask_edges=True, **autocast
        )
        return Answer(
            [_seen(prediction, view.dense) for prediction, view in zip(predictions, views)],
            "world_from_camera",
            metric=True,
        )

    @staticmethod
    def _view(image: torch.Tensor, view: View) -> dict[str, object]:
        out: dict[str, object] = {
            "img": image,
            "data_norm_type": ["dinov2"],
            "is_metric_scale": torch.tensor([True]),
        }
        if view.intrinsics is not None:
            out["intrinsics"] = torch.from_numpy(np.array(view.intrinsics, np.float32))[None]
        if view.depth is not None and view.intrinsics is not None:
            out["depth_z"] = torch.from_numpy(np.array(view.depth, np.float32))[None]
        if view.T_world_cam is not None:
            out["camera_poses"] = torch.from_numpy(np.array(view.T_world_cam, np.float32))[None]
        return out


def _seen(prediction: Mapping[str, torch.Tensor], dense: bool) -> Seen:
    pose = array(prediction["camera_poses"])[0]
    intrinsics = array(prediction["intrinsics"])[0] if "intrinsics" in prediction else None
    if not dense:
        return Seen(pose, intrinsics)
    confidence = array(prediction["conf"])[0]
    if "mask" in prediction:
        confidence = np.where(array(prediction["mask"])[0, ..., 0] > 0, confidence, NOT_SURE)
    return Seen(pose, intrinsics, array(prediction["depth_z"])[0, ..., 0], confidence)
