"""Other networks through MapAnything's model factory, which gives them a common form of output:
vggt, vggt_commercial, pi3, pi3x, da3, must3r, ...

Interface: github.com/facebookresearch/map-anything, init_model_from_config. The networks take
views with normalised images and nothing else. They return cam_trans and cam_quats (camera to
world, x y z w), pts3d_cam, ray_directions and conf. They are meant for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from mapanything.models import init_model_from_config

from vggt3_ros.adapters.contract import Answer, Seen, View, intrinsics_of
from vggt3_ros.adapters.torch_device import array, describe, normalised, pick, stacked
from vggt3_ros.network.licences import PI3X, VGGT, VGGT_COMMERCIAL, licence_of

LOADED = {
    "vggt": VGGT.hub_id,
    "vggt_commercial": VGGT_COMMERCIAL.hub_id,
    "pi3x": PI3X.hub_id,
    "da3": "depth-anything/DA3-GIANT-1.1",
    # what the factory's configuration loads
    "da3_nested": "depth-anything/DA3NESTED-GIANT-LARGE-1.1",
}
AS_THEY_ARE = ("vggt", "pi3")  # name prefixes of networks that take images in 0..1
# name prefixes of networks that take images in -1..1, in patches of 16 pixels
CENTRED = ("dust3r", "mast3r", "must3r", "modular_dust3r", "pow3r")
LOGITS = ("pi3",)  # name prefixes of networks whose confidence is a logit
METRIC = ("pi3x", "da3_nested", "mapanything")  # name prefixes of networks with metric output


class MapAnythingModels:
    """Adapter of the factory's networks. weights: the name of a configuration of the factory
    (`configs/model/*.yaml`), by default vggt.
    """

    takes: tuple[str, ...] = ()

    def __init__(self, weights: str = "", device: str = "auto", dtype: str = "auto") -> None:
        self._model = weights or "vggt"
        self.name = f"{self._model} by MapAnything's factory"
        self.weights = LOADED.get(self._model, self._model)
        self.licence = licence_of(self.weights)
        self.patch = 16 if self._model.startswith(CENTRED) else 14
        self._device, chosen = pick(device, dtype)
        self.device, _ = describe(self._device, chosen)
        self.dtype = "half precision by autocast" if self._device.type == "cuda" else "float32"
        self._network = init_model_from_config(self._model, device=str(self._device)).eval()

    @torch.inference_mode()
    def __call__(self, views: Sequence[View], progress: Callable[[float], None]) -> Answer:
        progress(0.0)
        images, kind = self._prepared(stacked(views))
        batch = [{"img": image[None].to(self._device), "data_norm_type": [kind], "instance": [str(i)], "idx": [i],
                  "true_shape": [tuple(image.shape[1:])]} for i, image in enumerate(images)]  # fmt: skip
        with torch.autocast(self._device.type, enabled=self._device.type == "cuda"):
            predictions = self._network(batch)
        seen = [self._seen(prediction, view.dense) for prediction, view in zip(predictions, views)]
        return Answer(seen, "world_from_camera", metric=self._model.startswith(METRIC))

    def _prepared(self, images: torch.Tensor) -> tuple[torch.Tensor, str]:
        """Return the images as the network expects them, and the factory's name of that
        normalisation.
        """
        if self._model.startswith(AS_THEY_ARE):
            return images, "identity"
        return (
            (2 * images - 1, "dust3r")
            if self._model.startswith(CENTRED)
            else (normalised(images), "dinov2")
        )

    def _seen(self, prediction: Mapping[str, torch.Tensor], dense: bool) -> Seen:
        pose = _pose(array(prediction["cam_trans"])[0], array(prediction["cam_quats"])[0])
        points = array(prediction["pts3d_cam"])[0]
        intrinsics = intrinsics_of(
            array(prediction["ray_directions"])[0] if "ray_directions" in prediction else points
        )
        if not dense:
            return Seen(pose, intrinsics)
        confidence = array(prediction["conf"])[0].reshape(points.shape[:2])
        if self._model.startswith(LOGITS):
            confidence = 1 + np.exp(np.minimum(confidence, 80))
        return Seen(pose, intrinsics, confidence=confidence, points=points)


def _pose(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return the pose (4, 4) of a translation and a quaternion x y z w of any non-zero norm."""
    x, y, z, w = np.asarray(quaternion, float) / np.linalg.norm(quaternion)
    out = np.eye(4)
    out[:3, :3] = [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                   [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                   [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]  # fmt: skip
    out[:3, 3] = translation
    return out
