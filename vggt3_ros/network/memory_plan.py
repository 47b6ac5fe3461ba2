"""How many images go through the device at once and where the rest waits, decided before the pass
from sizes alone.
"""

import dataclasses
from dataclasses import dataclass

import psutil
import torch

from .config import GlobalAttention, NetworkConfig
from .token_store import Placement

_USABLE = 0.9  # of the free memory: allocators round up and others allocate too
# Tokens in one chunk. A CPU wants its caches to hold them, but its 16-bit products rearrange the
# weights on every call, which
# more tokens must pay for; a GPU wants to be full.
_PREFERRED_TOKENS = {("cpu", 4): 1024, ("cpu", 2): 4096, ("cuda", 4): 16384, ("cuda", 2): 32768}
# head-group buffers of fast_weights.py, with room for one head
_FAST_WORK_BYTES = {"cpu": 48 << 20, "cuda": 3 << 30}


class NotEnoughMemory(MemoryError):
    """Not even one image at a time fits; the message says what is needed and what there is."""


@dataclass(frozen=True)
class PassShape:
    """What one map() has to do."""

    config: NetworkConfig
    images: int  # of this process
    height: int  # pixels
    width: int
    dtype: torch.dtype  # trunk
    head_dtype: torch.dtype
    dense_heads: int = 0  # how many of depth and points are wanted
    dense_frames: int = 0  # for how many images

    @property
    def tokens(self) -> int:
        return self.config.tokens_per_image(self.height, self.width)

    @property
    def stream_bytes(self) -> int:
        """The residual stream of one image."""
        return self.tokens * self.config.embed_dim * self.dtype.itemsize

    @property
    def association_bytes(self) -> int:
        """Keys, values and rates of one image in one layer."""
        return (
            self.tokens
            * (2 * self.config.embed_dim + 3 * self.config.num_heads)
            * self.dtype.itemsize
        )

    @property
    def softmax_bytes(self) -> int:
        """Keys and values of one image, of the layer being finished and of the next."""
        return 2 * self.tokens * 2 * self.config.embed_dim * self.dtype.itemsize

    @property
    def projection_bytes(self) -> int:
        """What the dense heads keep of one image until the last tapped layer."""
        patches = self.tokens - self.config.special_tokens
        return (
            self.dense_heads * patches * sum(self.config.dense_channels) * self.head_dtype.itemsize
        )

    @property
    def camera_bytes(self) -> int:
        """The camera head on the tokens of all images, after the trunk's buffers are gone or
        beside them.
        """
        at_once = min(self.images, 512)
        return (self.images * 9 + at_once * 24) * self.config.token_dim * self.head_dtype.itemsize

    @property
    def output_bytes(self) -> int:
        """Finished outputs in host memory: depth 2, points 4 floats a pixel (counted as 3 for
        either).
        """
        return self.dense_frames * self.dense_heads * self.height * self.width * 3 * 4

    def chunk_bytes(self, images: int) -> int:
        """Work buffers of a chunk of this many images: about 24 stream-sized buffers and an MLP's
        hidden layer.
        """
        config = self.config
        stream = self.tokens * config.embed_dim * self.dtype.itemsize
        buffers = int((20 + config.mlp_ratio) * stream)
        return images * (buffers + 3 * self.height * self.width * 8)

    def decode_bytes(self, images: int) -> int:
        """Work buffers of a dense head on this many images: feature maps at 1, 1/2 and 1/4 of the
        decoder's resolution.
        """
        if not self.dense_heads:
            return 0
        pixels, features = self.height * self.width, self.config.dense_features
        # of the finest level before its upsampling
        cells = 16 * (self.tokens - self.config.special_tokens)
        values = pixels * (features // 2 + 2 * 32 + 16) + cells * (
            6 * features + sum(self.config.dense_channels) // 4
        )
        return images * values * self.head_dtype.itemsize


@dataclass(frozen=True)
class MemoryPlan:
    """Chunk sizes and placements, with what they were computed from (bytes)."""

    chunk_images: int
    decode_images: int
    tokens: Placement
    projections: Placement
    keep_associations: bool  # else recomputed from the stream in every inner step
    work_bytes: int
    stored_bytes: int  # on the device, beside the work buffers
    free_bytes: int

    def describe(self) -> str:
        kept = "kept" if self.keep_associations else "recomputed each step"
        return (
            f"{self.chunk_images} images at once ({self.decode_images} in the dense heads), work {_mib(self.work_bytes)}, "
            f"stored {_mib(self.stored_bytes)}, free {_mib(self.free_bytes)}; tokens on {self.tokens.value}, "
            f"projections on {self.projections.value}, associations {kept}"
        )

    def reduced(self, offload: Placement) -> "MemoryPlan":
        """The next smaller plan after an out-of-memory error: first half the images, then fewer
        things on the device.

        Raises NotEnoughMemory when there is nothing left to give up.
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
        raise NotEnoughMemory(f"out of memory with the smallest plan: {self.describe()}")


def plan_pass(
    shape: PassShape, device: torch.device, free_bytes: int, host_free_bytes: int
) -> MemoryPlan:
    """Largest useful chunks that fit, then as much of what waits as still fits on the device.

    ``free_bytes``: device memory for this pass, weights already loaded; ``host_free_bytes``: the
    same of the host (equal on a CPU). Raises NotEnoughMemory where one image at a time does not
    fit.
    """
    on_cpu = device.type == "cpu"
    usable = int(free_bytes * _USABLE)
    if on_cpu:
        usable -= shape.output_bytes
    elif shape.output_bytes > host_free_bytes:
        raise NotEnoughMemory(
            f"outputs take {_mib(shape.output_bytes)} of host memory, {_mib(host_free_bytes)} free"
        )
    fixed = _FAST_WORK_BYTES.get(device.type, _FAST_WORK_BYTES["cpu"])
    if shape.config.attention is GlobalAttention.SOFTMAX:
        fixed = shape.images * shape.softmax_bytes  # softmax needs all keys and values at hand
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
            f"one {shape.width}x{shape.height} image at a time needs {_mib(work(1, 1))}, {_mib(max(0, usable))} can be used; "
            "ask for depth in fewer frames, use smaller images or a narrower dtype"
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
    """Where what does not fit on the device goes: host memory where that is other memory and large
    enough, else disk.
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
    """Bytes that a pass may take on this device now."""
    if device.type == "cuda":
        unused_cache = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused_cache
    return host_free_memory()


def host_free_memory() -> int:
    """Available host memory, within the control group's limit where there is one."""
    available = psutil.virtual_memory().available
    try:  # of control groups psutil knows nothing
        with (
            open("/sys/fs/cgroup/memory.max") as limit,
            open("/sys/fs/cgroup/memory.current") as current,
        ):
            return min(available, max(0, int(limit.read()) - int(current.read())))
    except (OSError, ValueError):  # no control group, or its limit is "max"
        return available


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
