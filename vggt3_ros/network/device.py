"""Which dtype the trunk should have on a device: measured, since what a CPU claims to support it
may only emulate.
"""

import time

import torch

_SIDE = 512  # a product this large tells, and takes a fifth of a second where it is emulated


@torch.inference_mode()
def pick_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where its matrix product is faster than float32's (GPUs since 2020, CPUs with AMX),
    else float32.
    """
    device = torch.device(device)
    return min((torch.bfloat16, torch.float32), key=lambda dtype: _seconds(device, dtype))


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    a = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):  # the first sets up the library
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return best
