"""How many images are processed at once and where the rest is stored, decided from sizes alone
before the pass starts.
"""

import dataclasses
import os
from dataclasses import dataclass

import torch

from .config import GlobalAttention, NetworkConfig
from .token_store import Placement

_USABLE = 0.9  # share of the free memory: allocators round up, and other processes allocate too
# Tokens per chunk, by device and bytes per value. On a CPU they should fit the caches, but its
# 16-bit products reorder the weights on every call, a cost that more tokens amortise. On a GPU they
# should fill the device.
_PREFERRED_TOKENS = {("cpu", 4): 1024, ("cpu", 2): 4096, ("cuda", 4): 16384, ("cuda", 2): 32768}
# buffers of a group of heads in fast_weights.py, with room for one head
_FAST_WORK_BYTES = {"cpu": 48 << 20, "cuda": 3 << 30}


class NotEnoughMemory(MemoryError):
    """Not even one image at a time fits. The message gives the memory needed and available."""


@dataclass(frozen=True)
class PassShape:
    """Sizes of the work of one map()."""

    config: NetworkConfig
    images: int  # on this process
    height: int  # pixels
    width: int
    dtype: torch.dtype  # of the trunk
    head_dtype: torch.dtype
    dense_heads: int = 0  # number of outputs requested: depth, points
    dense_frames: int = 0  # number of images that get them

    @property
    def tokens(self) -> int:
        return self.config.tokens_per_image(self.height, self.width)

    @property
    def stream_bytes(self) -> int:
        """Bytes of one image's residual stream."""
        return self.tokens * self.config.embed_dim * self.dtype.itemsize

    @property
    def association_bytes(self) -> int:
        """Bytes of one image's keys, values and rates in one layer."""
        return (
            self.tokens
            * (2 * self.config.embed_dim + 3 * self.config.num_heads)
            * self.dtype.itemsize
        )

    @property
    def softmax_bytes(self) -> int:
        """Bytes of one image's keys and values, in the layer being finished and the next."""
        return 2 * self.tokens * 2 * self.config.embed_dim * self.dtype.itemsize

    @property
    def projection_bytes(self) -> int:
        """Bytes that the dense heads keep of one image until the last tapped layer."""
        patches = self.tokens - self.config.special_tokens
        return (
            self.dense_heads * patches * sum(self.config.dense_channels) * self.head_dtype.itemsize
        )

    @property
    def camera_bytes(self) -> int:
        """Bytes of the camera head on the tokens of all images; the trunk's buffers may still be
        allocated.
        """
        at_once = min(self.images, 512)
        return (self.images * 9 + at_once * 24) * self.config.token_dim * self.head_dtype.itemsize

    @property
    def output_bytes(self) -> int:
        """Bytes of the finished outputs in host memory: depth has 2, points 4 floats per pixel
        (counted as 3 each).
        """
        return self.dense_frames * self.dense_heads * self.height * self.width * 3 * 4

    def chunk_bytes(self, images: int) -> int:
        """Return the bytes of work buffers for a chunk of this many images: about 24 buffers of
        the stream's size and the hidden layer of an MLP.
        """
        config = self.config
        stream = self.tokens * config.embed_dim * self.dtype.itemsize
        buffers = int((20 + config.mlp_ratio) * stream)
        return images * (buffers + 3 * self.height * self.width * 8)

    def decode_bytes(self, images: int) -> int:
        """Return the bytes of work buffers of a dense head on this many images: feature maps at 1,
        1/2 and 1/4 of the decoder's resolution.
        """
        if not self.dense_heads:
            return 0
        pixels, features = self.height * self.width, self.config.dense_features
        # at the finest level, before upsampling
        cells = 16 * (self.tokens - self.config.special_tokens)
        values = pixels * (features // 2 + 2 * 32 + 16) + cells * (
            6 * features + sum(self.config.dense_channels) // 4
        )
        return images * values * self.head_dtype.itemsize


@dataclass(frozen=True)
class MemoryPlan:
    """Chunk sizes and placements, and the byte counts that led to them."""

    chunk_images: int
    decode_images: int
    tokens: Placement
    projections: Placement
    keep_associations: bool  # otherwise recomputed from the stream in every inner step
    work_bytes: int
    stored_bytes: int  # on the device, in addition to the work buffers
    free_bytes: int

    def describe(self) -> str:
        """Return the plan in one line, for the log."""
        kept = "kept" if self.keep_associations else "recomputed in each step"
        return (
            f"{self.chunk_images} images at once ({self.decode_images} in the dense heads), work buffers {_mib(self.work_bytes)}, "
            f"stored {_mib(self.stored_bytes)}, free {_mib(self.free_bytes)}; tokens on {self.tokens.value}, "
            f"projections on {self.projections.value}, associations {kept}"
        )

    def reduced(self, offload: Placement) -> "MemoryPlan":
        """Return the next smaller plan after an out-of-memory error: first half the images, then
        less data on the device.

        ``offload``: where that data goes. Raise NotEnoughMemory if nothing is left to reduce.
        """
        if self.chunk_images > 1 or self.decode_images > 1:
            return dataclasses.replace(
                self,
                chunk_images=max(1, self.chunk_images // 2),
                decode_images=max(1, self.decode_images // 2),
                work_bytes=self.work_bytes // 2,
            )
        if self.keep_associations:
            return dataclasses.replace(self, keep_associations=False)
        if Placement.DEVICE in (self.tokens, self.projections):
            return dataclasses.replace(self, tokens=offload, projections=offload)
        raise NotEnoughMemory(f"out of memory even with the smallest plan: {self.describe()}")


def plan_pass(
    shape: PassShape, device: torch.device, free_bytes: int, host_free_bytes: int
) -> MemoryPlan:
    """Choose the largest useful chunks that fit, then keep as much of the waiting data on the
    device as still fits.

    ``free_bytes``: device memory available to this pass, with the weights already loaded;
    ``host_free_bytes``: the same for the host (equal on a CPU). Raise NotEnoughMemory if not even
    one image at a time fits.
    """
    on_cpu = device.type == "cpu"
    usable = int(free_bytes * _USABLE)
    if on_cpu:
        usable -= shape.output_bytes
    elif shape.output_bytes > host_free_bytes:
        raise NotEnoughMemory(
            f"the outputs need {_mib(shape.output_bytes)} of host memory, {_mib(host_free_bytes)} is free"
        )
    fixed = _FAST_WORK_BYTES.get(device.type, _FAST_WORK_BYTES["cpu"])
    if shape.config.attention is GlobalAttention.SOFTMAX:
        fixed = (
            shape.images * shape.softmax_bytes
        )  # softmax needs all keys and values on the device
    fixed += shape.camera_bytes

    def work(chunk: int, decode: int) -> int:
        return (
            max(
                shape.chunk_bytes(chunk),
                shape.chunk_bytes(chunk) // 2 + shape.decode_bytes(decode),
            )
            + fixed
        )

    if work(1, 1) > usable:
        raise NotEnoughMemory(
            f"one {shape.width}x{shape.height} image at a time needs {_mib(work(1, 1))}, {_mib(max(0, usable))} is available; "
            "request depth for fewer frames, or use smaller images or a narrower dtype"
        )
    preferred = _PREFERRED_TOKENS.get((device.type, shape.dtype.itemsize), 1024)
    chunk = max(1, min(shape.images, preferred // shape.tokens))
    decode = max(1, min(shape.dense_frames, preferred // (8 * shape.tokens)))
    while chunk > 1 and work(chunk, decode) > usable // 2:
        chunk, decode = chunk // 2, max(1, decode // 2)
    decode = 1 if work(chunk, decode) > usable else decode

    remaining = usable - work(chunk, decode)
    offload = offload_placement(device, shape, host_free_bytes)
    stored = 0

    def place(size: int) -> bool:
        nonlocal stored
        fits = stored + size <= remaining
        stored += size if fits else 0
        return fits

    tokens = Placement.DEVICE if place(shape.images * shape.stream_bytes) else offload
    projections = (
        Placement.DEVICE if place(shape.dense_frames * shape.projection_bytes) else offload
    )
    fast = shape.config.attention is GlobalAttention.FAST_WEIGHTS
    keep = fast and place(shape.images * shape.association_bytes)
    return MemoryPlan(
        chunk, decode, tokens, projections, keep, work(chunk, decode), stored, free_bytes
    )


def offload_placement(device: torch.device, shape: PassShape, host_free_bytes: int) -> Placement:
    """Return where data goes that does not fit on the device: host memory if that is separate and
    large enough, else disk.
    """
    needed = (
        shape.images * shape.stream_bytes
        + shape.dense_frames * shape.projection_bytes
        + shape.output_bytes
    )
    if device.type != "cpu" and needed < host_free_bytes * _USABLE:
        return Placement.HOST
    return Placement.DISK


def free_memory(device: torch.device) -> int:
    """Return the bytes that a pass may allocate on this device now."""
    if device.type == "cuda":
        unused_cache = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused_cache
    return host_free_memory()


def host_free_memory() -> int:
    """Return the available host memory in bytes, within the control group's limit if there is one."""
    try:
        import psutil

        available: int = psutil.virtual_memory().available
    except ImportError:  # a bare GPU machine
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:  # psutil does not consider control groups
        with (
            open("/sys/fs/cgroup/memory.max") as limit,
            open("/sys/fs/cgroup/memory.current") as current,
        ):
            return min(available, max(0, int(limit.read()) - int(current.read())))
    except (OSError, ValueError):  # no control group, or its limit is "max"
        return available


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
