"""Device, dtype and image tensors, for adapters of torch networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vggt3_ros.adapters.contract import View

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pick(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype of these names. "auto" is the first GPU if there is one, and
    bfloat16 on GPUs that support it, else float32.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    chosen = torch.device(name)
    if dtype != "auto":
        return chosen, getattr(torch, dtype)
    half = chosen.type == "cuda" and torch.cuda.is_bf16_supported()
    return chosen, torch.bfloat16 if half else torch.float32


def describe(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the names of the device (with its model) and the dtype, for people."""
    name = (
        f"{device} ({torch.cuda.get_device_name(device)})"
        if device.type == "cuda"
        else str(device)
    )
    return name, str(dtype).removeprefix("torch.")


def stacked(views: Sequence[View]) -> torch.Tensor:
    """Return the images of views as [N, 3, H, W] float32 in 0..1."""
    return (
        torch.stack([torch.from_numpy(view.image.copy()) for view in views])
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Normalise images [N, 3, H, W] in 0..1 by ImageNet's mean and standard deviation, the input
    of DINOv2 networks.
    """
    return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        3, 1, 1
    )


def array(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return a tensor as a float32 array on the CPU; arrays are returned as they are."""
    return tensor.detach().float().cpu().numpy() if isinstance(tensor, torch.Tensor) else tensor
