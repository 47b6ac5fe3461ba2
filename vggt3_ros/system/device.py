"""Which device the back end runs on, and how people are told."""

import torch

EMBEDDED = "embedded networks (XFeat, LighterGlue; Apache-2.0)"


def device_named(name):
    """The torch.device of "auto", "cpu", "cuda", "cuda:0", ... ValueError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device '{name}' is none that torch knows: auto, cpu, cuda, cuda:0, ..."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device '{name}' was asked for but torch finds no GPU: use auto or cpu, or install torch with CUDA"
        )
    return device


def device_name(device):
    """Of a torch.device, with the model of a GPU."""
    return (
        f"{device} ({torch.cuda.get_device_name(device)})"
        if device.type == "cuda"
        else str(device)
    )


def running_on(name, stage):
    """Of device_name and the NetworkStage, None without a prior: one line for status, /diagnostics
    and the log, which says the device, the numbers, the prior and the licence of its weights.
    """
    prior = "no prior" if stage is None else f"prior {stage.scene.viewer.prior()}"
    return f"{name}, float32, {EMBEDDED}; {prior}"
