"""Choice of the trunk's dtype on a device, by measurement: a CPU may report support for a dtype
that it only emulates.
"""

import time

import torch

_SIDE = 512  # large enough to be conclusive; 0.2 s where the dtype is emulated


@torch.inference_mode()
def pick_dtype(device: torch.device | str) -> torch.dtype:
    """Return bfloat16 if its matrix product is faster than float32's on this device (GPUs since
    2020, CPUs with AMX), else float32.
    """
    device = torch.device(device)
    return min((torch.bfloat16, torch.float32), key=lambda dtype: _seconds(device, dtype))


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Return the time of one [512, 512] matrix product, best of four."""
    a = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):  # the first run initialises the library
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # synchronises with the device
        best = min(best, time.perf_counter() - start)
    return best
