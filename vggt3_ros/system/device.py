"""The torch device of the back end, and its description for users."""

import torch

EMBEDDED = "embedded networks (XFeat, LighterGlue; Apache-2.0)"


def device_named(name: str) -> torch.device:
    """Return the torch.device for "auto" (a GPU if there is one), "cpu", "cuda", "cuda:0", ...

    Raises ValueError if torch does not know the name or finds no GPU for it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"torch does not know the device '{name}': use auto, cpu, cuda, cuda:0, ..."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device '{name}' was requested but torch finds no GPU: use auto or cpu, or install torch with CUDA"
        )
    return device


def device_name(device: torch.device) -> str:
    """Return the device's name, for a GPU with its model."""
    return (
        f"{device} ({torch.cuda.get_device_name(device)})"
        if device.type == "cuda"
        else str(device)
    )


def running_on(device: str, prior: str | None) -> str:
    """Return one line for status, /diagnostics and the log: the device (of :func:`device_name`),
    the number format, the embedded networks, and the network that supplies the prior with the
    licence of its weights (None: no prior).
    """
    return (
        f"{device}, float32, {EMBEDDED}; {'no prior' if prior is None else 'prior ' + str(prior)}"
    )
