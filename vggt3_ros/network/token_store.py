"""Storage of the tokens of all images between two layers: on the device, in host memory or on
disk.

The network itself needs only one chunk of images on the device; everything else is in a store.
"""

import math
import os
import tempfile
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from .scratch import Scratch


class Placement(StrEnum):
    """Where a store keeps its data."""

    DEVICE = "device"
    HOST = "host"  # pinned if the device is a GPU
    DISK = "disk"  # an unlinked temporary file in TMPDIR


class TokenStore(Protocol):
    """Tensor [images, ...] accessed by ranges of images."""

    def read(self, part: slice, scratch: Scratch) -> Tensor:
        """Return the rows on the device; they may be changed in place and are valid until the next
        read.
        """

    def write(self, part: slice, rows: Tensor) -> None:
        """Store the rows. Costs nothing if they are what ``read`` of a device store returned for
        the same part.
        """


class DeviceStore:
    """Rows in one tensor on the device; reads return views."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype):
        self._rows = torch.empty(shape, device=device, dtype=dtype)

    def read(self, part: slice, scratch: Scratch) -> Tensor:
        return self._rows[part]

    def write(self, part: slice, rows: Tensor) -> None:
        kept = self._rows[part]
        if kept.data_ptr() != rows.data_ptr():
            kept.copy_(rows)


class HostStore:
    """Rows in host memory. Copies run on the current stream, in order with the kernels that use
    them, so no synchronisation is needed.
    """

    def __init__(
        self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, name: str
    ):
        self._rows = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
        self._name = name

    def read(self, part: slice, scratch: Scratch) -> Tensor:
        kept = self._rows[part]
        return scratch.take(f"store_{self._name}", *kept.shape).copy_(kept, non_blocking=True)

    def write(self, part: slice, rows: Tensor) -> None:
        self._rows[part].copy_(rows, non_blocking=True)


class DiskStore:
    """Rows in a temporary file. Reads and writes are explicit, not memory-mapped, to keep resident
    memory flat.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, name: str):
        self._row_shape = shape[1:]
        self._row_bytes = math.prod(self._row_shape) * dtype.itemsize
        self._name = name
        # open as long as the store exists
        self._file = tempfile.TemporaryFile(prefix="vggt3-tokens-")  # noqa: SIM115
        # fail here if the disk is full, not later
        os.posix_fallocate(self._file.fileno(), 0, max(1, shape[0] * self._row_bytes))

    def read(self, part: slice, scratch: Scratch) -> Tensor:
        rows = scratch.take(f"store_{self._name}", part.stop - part.start, *self._row_shape)
        on_host = rows if rows.device.type == "cpu" else torch.empty_like(rows, device="cpu")
        remaining, offset = _bytes(on_host), part.start * self._row_bytes
        while remaining:
            count = os.preadv(self._file.fileno(), [remaining], offset)
            if count == 0:
                raise OSError(f"the token file ends at byte {offset}")
            remaining, offset = remaining[count:], offset + count
        return rows.copy_(on_host) if on_host is not rows else rows

    def write(self, part: slice, rows: Tensor) -> None:
        remaining, offset = _bytes(rows.contiguous().cpu()), part.start * self._row_bytes
        while remaining:
            count = os.pwrite(self._file.fileno(), remaining, offset)
            remaining, offset = remaining[count:], offset + count


def _bytes(tensor: Tensor) -> memoryview:
    """View a contiguous CPU tensor as bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def open_store(
    placement: Placement,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    name: str,
) -> TokenStore:
    """Return an empty store for a tensor of ``shape`` = [images, ...]."""
    if placement is Placement.DISK:
        return DiskStore(shape, dtype, name)
    if placement is Placement.HOST and device.type != "cpu":
        return HostStore(shape, device, dtype, name)
    return DeviceStore(shape, device, dtype)
