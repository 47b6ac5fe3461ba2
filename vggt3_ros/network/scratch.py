"""Work buffers that are written over and over instead of being allocated for every layer."""

import math

import torch
from torch import Tensor


class Scratch:
    """Named buffers of one running call; a call makes its own, so calls in other threads never
    share one.

    Page faults on freshly mapped memory cost more than the arithmetic they serve on many CPUs, and
    on a GPU a fixed set of buffers makes the memory plan's numbers hold.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device = device
        self.dtype = dtype
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Contiguous uninitialised tensor of this shape; valid until the same name is taken
        again.
        """
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            self._buffers.pop(name, None)  # free the small one before the large one is made
            buffer = torch.empty(size, device=self.device, dtype=self.dtype)
            self._buffers[name] = buffer
        return buffer[:size].view(shape)

    @property
    def bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())
