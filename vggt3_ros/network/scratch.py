"""Work buffers that are reused across layers instead of being allocated for each one."""

import math

import torch
from torch import Tensor


class Scratch:
    """Named buffers of one running call. Each call makes its own, so that threads never share one.

    On many CPUs, page faults on freshly mapped memory cost more than the arithmetic that uses it.
    On a GPU, a fixed set of buffers keeps memory use within the memory plan.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device = device
        self.dtype = dtype
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a contiguous, uninitialised tensor of this shape, valid until the same name is
        taken again.
        """
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            self._buffers.pop(name, None)  # free the small buffer before allocating the large one
            buffer = torch.empty(size, device=self.device, dtype=self.dtype)
            self._buffers[name] = buffer
        return buffer[:size].view(shape)

    @property
    def bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())
