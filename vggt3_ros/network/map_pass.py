"""One pass over all images of a map, layer by layer and one chunk of images at a time.

Between two layers only the stream of tokens is kept, in a TokenStore. Each visit to a chunk
finishes one layer and begins the next, so that the stream is read and written once per layer. All
sums over images are complete before a layer is finished, so the result does not depend on the
chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .aggregator import Aggregator
from .blocks import Block, typed
from .config import GlobalAttention
from .global_blocks import FastWeightBlock, SoftmaxBlock
from .layout import TokenLayout
from .memory_plan import MemoryPlan
from .mixing import FastWeightMixer, Mixer, SoftmaxMixer
from .parallel import ImageGroup
from .progress import Progress
from .scratch import Scratch
from .token_store import DeviceStore, open_store

# Called with (layer, images, frame-block output, global-block output), both [images, tokens,
# channels], after every layer.
TokenObserver = Callable[[int, slice, Tensor, Tensor], None]


class ImageBatch(Protocol):
    """Images [N, 3, H, W]: a tensor, an array, or an object that loads them when sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> Tensor | np.ndarray: ...


def chunks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover 0..count-1."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def load_images(
    images: ImageBatch, part: slice, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Load a range of images as [n, 3, H, W] in 0..1 on the device; uint8 is divided by 255."""
    batch = torch.as_tensor(images[part])
    if device.type == "cuda" and batch.device.type == "cpu":
        batch = batch.pin_memory().to(device, non_blocking=True)
    if batch.dtype == torch.uint8:
        return batch.to(device=device, dtype=dtype).div_(255)
    return batch.to(device=device, dtype=dtype)


class MapPass:
    """Run the trunk over all images. The observers receive what the heads need."""

    def __init__(
        self,
        aggregator: Aggregator,
        layout: TokenLayout,
        plan: MemoryPlan,
        scratch: Scratch,
        group: ImageGroup,
        progress: Progress,
        observers: Sequence[TokenObserver],
    ):
        self._aggregator = aggregator
        self._layout = layout
        self._plan = plan
        self._scratch = scratch
        self._group = group
        self._progress = progress
        self._observers = observers

    def run(self, images: ImageBatch, steps: int) -> tuple[Tensor | None, Tensor]:
        """Return the fast weights of all layers [layers, 3, heads, d, m] (None for softmax) and
        the camera tokens [N, 2 * channels].
        """
        aggregator, config, scratch = self._aggregator, self._aggregator.config, self._scratch
        count, layout = len(images), self._layout
        parts = list(chunks(count, self._plan.chunk_images))
        tokens = open_store(
            self._plan.tokens,
            (count, layout.tokens, config.embed_dim),
            scratch.device,
            scratch.dtype,
            "stream",
        )
        make_mixer = self._mixers(count, steps)

        mixer = make_mixer(0)
        for part in parts:
            batch = load_images(images, part, scratch.device, scratch.dtype)
            world_frame_first = self._group.rank == 0 and part.start == 0
            x = aggregator.embed(batch, world_frame_first, layout, scratch, self._progress)
            self._begin_layer(0, mixer, part, x)
            tokens.write(part, x)

        settled = []
        camera_tokens = torch.empty(
            count, config.token_dim, device=scratch.device, dtype=scratch.dtype
        )
        for layer in range(config.depth):
            mixer.settle(tokens, parts)
            if isinstance(mixer, FastWeightMixer):
                settled.append(mixer.weights)
            last = layer + 1 == config.depth
            following = None if last else make_mixer(layer + 1)
            for part in parts:
                x = tokens.read(part, scratch)
                frame = scratch.take("frame_output", *x.shape).copy_(x)
                mixer.finish(x)
                self._progress.advance(x.shape[0], f"layer {layer + 1} of {config.depth}")
                for observe in self._observers:
                    observe(layer, part, frame, x)
                if following is None:
                    camera_tokens[part] = torch.cat((frame[:, 0], x[:, 0]), dim=-1)
                else:
                    self._begin_layer(layer + 1, following, part, x)
                    tokens.write(part, x)
            if following is not None:
                mixer = following
        return torch.stack(settled) if settled else None, camera_tokens

    def _begin_layer(self, layer: int, mixer: Mixer, part: slice, x: Tensor) -> None:
        self._aggregator.frame_blocks[layer](x, self._layout.rotary, self._scratch)
        mixer.absorb(part, x)
        self._progress.advance(x.shape[0], f"layer {layer + 1} of {self._aggregator.config.depth}")

    def _mixers(self, count: int, steps: int) -> Callable[[int], Mixer]:
        """Return a function from a layer's index to its mixer; the layers share the memory of the
        associations.
        """
        config, layout, scratch = self._aggregator.config, self._layout, self._scratch
        if config.attention is GlobalAttention.SOFTMAX:
            softmax_blocks = typed(self._aggregator.global_blocks, SoftmaxBlock)
            return lambda layer: SoftmaxMixer(
                softmax_blocks[layer],
                count,
                config.num_heads,
                layout,
                scratch,
                self._group,
                self._progress,
            )
        kept = None
        if self._plan.keep_associations:
            width = 2 * config.embed_dim + 3 * config.num_heads
            kept = DeviceStore((count, layout.tokens, width), scratch.device, scratch.dtype)
        fast_blocks = typed(self._aggregator.global_blocks, FastWeightBlock)
        return lambda layer: FastWeightMixer(
            fast_blocks[layer], steps, layout, scratch, kept, self._group, self._progress
        )


def query_pass(
    aggregator: Aggregator,
    images: Tensor,
    fast_weights: Tensor,
    layout: TokenLayout,
    scratch: Scratch,
    progress: Progress,
    part: slice,
    observers: Sequence[TokenObserver],
) -> Tensor:
    """Run images [n, 3, H, W], each independently, against a mapped scene. Return their camera
    tokens [n, 2 * channels].

    ``part``: the range of these images among all queries, passed to the observers.
    """
    depth = aggregator.config.depth
    x = aggregator.embed(images, False, layout, scratch, progress)
    frame = scratch.take("frame_output", *x.shape)
    frame_blocks = typed(aggregator.frame_blocks, Block)
    global_blocks = typed(aggregator.global_blocks, FastWeightBlock)
    for layer in range(depth):
        frame_blocks[layer](x, layout.rotary, scratch)
        progress.advance(x.shape[0], f"layer {layer + 1} of {depth}")
        frame.copy_(x)
        global_blocks[layer].finish(x, fast_weights[layer], layout, scratch)
        progress.advance(x.shape[0], f"layer {layer + 1} of {depth}")
        for observe in observers:
            observe(layer, part, frame, x)
    return torch.cat((frame[:, 0], x[:, 0]), dim=-1)
