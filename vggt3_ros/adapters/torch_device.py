"""Where a network runs and in which numbers, for adapters of networks in torch."""

import torch

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pick(device, dtype):
    """("auto" or a device, "auto" or a dtype's name) -> (torch.device, torch.dtype): bfloat16 on
    GPUs that have it, else float32.
    """
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    )
    if dtype != "auto":
        return device, getattr(torch, dtype)
    return (
        device,
        torch.bfloat16
        if device.type == "cuda" and torch.cuda.is_bf16_supported()
        else torch.float32,
    )


def told(device, dtype):
    """(name of the device with its model, name of the dtype), for people."""
    name = (
        f"{device} ({torch.cuda.get_device_name(device)})"
        if device.type == "cuda"
        else str(device)
    )
    return name, str(dtype).removeprefix("torch.")


def stacked(views):
    """Images of views -> [N, 3, H, W] float32 in 0..1."""
    return (
        torch.stack([torch.from_numpy(view.image.copy()) for view in views])
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def normalised(images):
    """Images [N, 3, H, W] in 0..1 by ImageNet's mean and deviation, as networks on DINOv2 take
    them.
    """
    return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        3, 1, 1
    )


def array(tensor):
    """A tensor as a float32 array on the CPU; arrays pass."""
    return tensor.detach().float().cpu().numpy() if isinstance(tensor, torch.Tensor) else tensor
