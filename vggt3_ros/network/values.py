"""Results of map() and query(): immutable values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .fast_weights import unstack_weights

_STATE_FORMAT = "vggt3-scene-state-1"


@dataclass(frozen=True)
class DenseOutput:
    """Per-pixel values of the images ``frames``: float32 on the CPU, in scene units (no metric
    scale).
    """

    frames: tuple[int, ...]  # indices into the images of the call
    # depth [M, H, W] along the optical axis, or points [M, H, W, 3] in the world frame
    values: Tensor
    confidence: Tensor  # [M, H, W], above 1


@dataclass(frozen=True)
class Predictions:
    """Cameras of N images and dense outputs of some of them.

    The world frame is the camera of the map's first image; its scale is arbitrary. A checkpoint
    trained to predict world-from-camera poses stores those in ``pose_encoding``; the two transform
    properties then swap their meaning (network.pose_convention).
    """

    # [N, 9] float32: camera-from-world translation, quaternion xyzw, fov_h, fov_w in radians
    pose_encoding: Tensor
    image_size: tuple[int, int]  # height, width in pixels
    depth: DenseOutput | None = None
    points: DenseOutput | None = None

    @property
    def T_camera_world(self) -> Tensor:
        """World-to-camera transforms [N, 4, 4] float64; OpenCV camera axes (x right, y down, z
        forward).
        """
        encoding = self.pose_encoding.double()
        transform = torch.eye(4, dtype=torch.float64).repeat(len(encoding), 1, 1)
        transform[:, :3, :3] = _rotation(encoding[:, 3:7])
        transform[:, :3, 3] = encoding[:, :3]
        return transform

    @property
    def T_world_camera(self) -> Tensor:
        """Camera-to-world transforms [N, 4, 4] float64."""
        forward = self.T_camera_world
        rotation = forward[:, :3, :3].transpose(1, 2)
        inverse = torch.eye(4, dtype=torch.float64).repeat(len(forward), 1, 1)
        inverse[:, :3, :3] = rotation
        inverse[:, :3, 3:] = -rotation @ forward[:, :3, 3:]
        return inverse

    @property
    def intrinsics(self) -> Tensor:
        """Camera matrices [N, 3, 3] float64 in pixels of the network's image; infinite where the
        predicted field of view is 0.
        """
        height, width = self.image_size
        tangent = (self.pose_encoding[:, 7:].double() / 2).tan()
        matrix = torch.zeros(len(tangent), 3, 3, dtype=torch.float64)
        matrix[:, 0, 0] = width / 2 / tangent[:, 1]
        matrix[:, 1, 1] = height / 2 / tangent[:, 0]
        matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = width / 2, height / 2, 1.0
        return matrix


@dataclass(frozen=True)
class SceneState:
    """A mapped scene: everything that query() needs. Apart from the camera tokens, its size does
    not depend on the number of images.
    """

    fast_weights: Tensor  # [layers, 3, heads, d, m] float32, stacked as in fast_weights.py
    camera_tokens: Tensor  # [N, 2 * channels], from the last layer
    network: str  # fingerprint of the network that made it

    def layer(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return w0 [heads, d, m], w1 [heads, m, d] and w2 [heads, d, m] of one layer."""
        return unstack_weights(self.fast_weights[index])

    @property
    def image_count(self) -> int:
        return self.camera_tokens.shape[0]

    def to(self, device: torch.device | str) -> "SceneState":
        return SceneState(
            self.fast_weights.to(device), self.camera_tokens.to(device), self.network
        )

    def save(self, path: Path) -> None:
        """Write a .safetensors file (75.5 MB at full size)."""
        tensors = {
            "fast_weights": self.fast_weights.contiguous(),
            "camera_tokens": self.camera_tokens.contiguous(),
        }
        save_file(tensors, path, metadata={"format": _STATE_FORMAT, "network": self.network})

    @staticmethod
    def load(path: Path) -> "SceneState":
        """Read a file written by ``save``. Raise ValueError if it is not a scene state."""
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            if metadata.get("format") != _STATE_FORMAT:
                raise ValueError(
                    f"{path} is not a scene state: {json.dumps(dict(metadata))[:200]}"
                )
            return SceneState(
                file.get_tensor("fast_weights"),
                file.get_tensor("camera_tokens"),
                metadata["network"],
            )


def _rotation(quaternion: Tensor) -> Tensor:
    """Return rotation matrices [N, 3, 3] of quaternions [N, 4] (x y z w) of any non-zero norm."""
    x, y, z, w = quaternion.unbind(-1)
    s = 2 / quaternion.square().sum(-1)
    rows = [
        1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y),
    ]  # fmt: skip
    matrix: Tensor = torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
    return matrix
