"""How one layer combines the images, chunk by chunk: absorb every chunk, settle once, then finish
every chunk.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from .fast_weights import add_gradients, column_norms, take_step
from .global_blocks import FastWeightBlock, SoftmaxBlock
from .layout import TokenLayout
from .parallel import ImageGroup
from .progress import Progress
from .scratch import Scratch
from .token_store import DeviceStore, TokenStore

_CPU_ATTENTION_FLOPS = 5e10  # per uninterruptible call: a few tenths of a second


class Mixer(Protocol):
    """Combination of all images in one layer."""

    def absorb(self, part: slice, x: Tensor) -> None:
        """Collect what the layer needs from the stream x of these images."""

    def settle(self, tokens: TokenStore, parts: Iterable[slice]) -> None:
        """Complete the sums over images, once all are absorbed; ``tokens`` still holds the
        absorbed stream.
        """

    def finish(self, x: Tensor) -> Tensor:
        """Advance the stream of some images in place and return it."""


class FastWeightMixer:
    """Update the layer's fast weights on all images. The gradient of the first step is accumulated
    while absorbing.
    """

    def __init__(
        self,
        block: FastWeightBlock,
        steps: int,
        layout: TokenLayout,
        scratch: Scratch,
        kept: DeviceStore | None,
        group: ImageGroup,
        progress: Progress,
    ):
        self._block = block
        self._steps = steps
        self._layout = layout
        self._scratch = scratch
        self._kept = kept  # shared by the layers in turn; None: recompute them
        self._group = group
        self._progress = progress
        self.weights = block.attn.initial_weights()
        self._norms = column_norms(self.weights)
        self._gradient = torch.zeros_like(self.weights)

    def absorb(self, part: slice, x: Tensor) -> None:
        packed = self._associate(part, x)
        add_gradients(self._gradient, self.weights, self._block.attn.unpack(packed), self._scratch)

    def settle(self, tokens: TokenStore, parts: Iterable[slice]) -> None:
        self._step()
        for _ in range(self._steps - 1):
            self._gradient.zero_()
            for part in parts:
                if self._kept is None:
                    packed = self._associate(part, tokens.read(part, self._scratch))
                else:
                    packed = self._kept.read(part, self._scratch)
                add_gradients(
                    self._gradient, self.weights, self._block.attn.unpack(packed), self._scratch
                )
                self._progress.check()
            self._step()

    def finish(self, x: Tensor) -> Tensor:
        return self._block.finish(x, self.weights, self._layout, self._scratch)

    def _associate(self, part: slice, x: Tensor) -> Tensor:
        width = 2 * x.shape[-1] + 3 * self._block.attn.num_heads
        if self._kept is None:
            out = self._scratch.take("associations", *x.shape[:-1], width)
        else:
            out = self._kept.read(part, self._scratch)
        return self._block.associations(x, self._layout, self._scratch, out)

    def _step(self) -> None:
        gradient = self._group.total(self._gradient)
        self.weights = take_step(
            self.weights, gradient, self._norms, self._block.attn.newton_schulz_steps
        )


class SoftmaxMixer:
    """Keep the keys and values of all images of a layer."""

    def __init__(
        self,
        block: SoftmaxBlock,
        images: int,
        heads: int,
        layout: TokenLayout,
        scratch: Scratch,
        group: ImageGroup,
        progress: Progress,
    ):
        self._block = block
        self._layout = layout
        self._scratch = scratch
        self._group = group
        self._progress = progress
        dim = block.norm1.normalized_shape[0]
        shape = (images, layout.tokens, 2, heads, dim // heads)
        self._keys_values = torch.empty(shape, device=scratch.device, dtype=scratch.dtype)

    def absorb(self, part: slice, x: Tensor) -> None:
        self._block.keys_values(x, self._layout, self._scratch, self._keys_values[part])

    def settle(self, tokens: TokenStore, parts: Iterable[slice]) -> None:
        # [1, tokens, 2, heads, d]
        everything = self._group.gather(self._keys_values).flatten(0, 1).unsqueeze(0)
        self._keys, self._values = everything.unbind(2)

    def finish(self, x: Tensor) -> Tensor:
        at_once = x.shape[0] * x.shape[1]
        if x.device.type == "cpu":
            at_once = min(
                at_once,
                max(64, int(_CPU_ATTENTION_FLOPS / (4 * self._keys.shape[1] * x.shape[2]))),
            )
        return self._block.finish(
            x, self._keys, self._values, at_once, self._layout, self._scratch, self._progress
        )
