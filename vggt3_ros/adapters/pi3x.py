"""Pi3X (arXiv 2507.13347): accepts intrinsics, depth and poses; its output is approximately
metric. Needs the package `pi3`.

Interface: github.com/yyfz/Pi3, Pi3X.forward. It takes images in 0..1, intrinsics in pixels,
camera-to-world poses, depth with 0 for unknown, and masks of the views that have each. It returns
points in the cameras' frames, camera-to-world poses, and confidence as a logit. Its weights are
not for commercial use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from vggt3_ros.adapters.contract import Answer, Seen, View, intrinsics_of
from vggt3_ros.adapters.torch_device import array, describe, pick, stacked
from vggt3_ros.network.licences import PI3X, licence_of


class Pi3X:
    """Adapter of Pi3X. weights: a hub id or a folder."""

    name, patch = "Pi3X", 14
    takes: tuple[str, ...] = ("intrinsics", "depth", "poses")

    def __init__(self, weights: str = "", device: str = "auto", dtype: str = "auto") -> None:
        from pi3.models.pi3x import Pi3X as Network

        self.weights = weights or PI3X.hub_id
        self.licence = licence_of(self.weights)
        self._device, self._dtype = pick(device, dtype)
        self.device, self.dtype = describe(self._device, self._dtype)
        self._network = Network.from_pretrained(self.weights).to(self._device).eval()

    @torch.inference_mode()
    def __call__(self, views: Sequence[View], progress: Callable[[float], None]) -> Answer:
        progress(0.0)
        images = stacked(views)[None].to(self._device)
        autocast = self._dtype != torch.float32
        with torch.autocast(
            self._device.type, dtype=self._dtype if autocast else None, enabled=autocast
        ):
            result = self._network(imgs=images, **self._conditions(views))
        result = {
            name: array(result[name])[0] for name in ("local_points", "conf", "camera_poses")
        }
        return Answer(
            [_seen(result, i, view.dense) for i, view in enumerate(views)],
            "world_from_camera",
            metric=True,
        )

    def _conditions(self, views: Sequence[View]) -> dict[str, torch.Tensor]:
        """Return the known inputs as tensors [1, N, ...], with masks [1, N] of the views that have
        them.
        """
        out = {}
        height, width = views[0].image.shape[:2]
        for name, mask, values, empty in (
            ("intrinsics", "mask_add_ray", [view.intrinsics for view in views], np.eye(3)),
            (
                "depths",
                "mask_add_depth",
                [view.depth for view in views],
                np.zeros((height, width)),
            ),
            ("poses", "mask_add_pose", [view.T_world_cam for view in views], np.eye(4)),
        ):
            there = [value is not None for value in values]
            if any(there):
                full = np.array(
                    [empty if value is None else value for value in values], np.float32
                )
                out[name] = torch.from_numpy(full)[None].to(self._device)
                out[mask] = torch.tensor([there], device=self._device)
        return out


def _seen(result: Mapping[str, np.ndarray], index: int, dense: bool) -> Seen:
    points, pose = result["local_points"][index], result["camera_poses"][index]
    intrinsics = intrinsics_of(points)
    if not dense:
        return Seen(pose, intrinsics)
    confidence = 1 + np.exp(np.minimum(result["conf"][index][..., 0], 80))
    return Seen(pose, intrinsics, confidence=confidence, points=points)
