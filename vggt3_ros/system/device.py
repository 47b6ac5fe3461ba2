"""One line for status, /diagnostics and the log: on which device, in which numbers, with which prior, under which licence."""

import torch

EMBEDDED = "embedded networks (XFeat, LighterGlue; Apache-2.0)"


def device_name(device):
    """Of a torch.device, with the model of a GPU."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def running_on(name, stage):
    """Of device_name and the NetworkStage, None without a prior."""
    prior = "no prior" if stage is None else f"prior {stage.scene.viewer.prior()}"
    return f"{name}, float32, {EMBEDDED}; {prior}"
