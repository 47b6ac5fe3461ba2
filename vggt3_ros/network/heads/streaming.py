"""Feed the dense heads while the trunk runs: tapped layers are projected at once, images are
decoded after the last of them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..config import NetworkConfig
from ..layout import TokenLayout
from ..progress import Progress
from ..scratch import Scratch
from ..token_store import Placement, TokenStore, open_store
from .dense import DenseHead

# raw [n, outputs, H, W] -> values [n, H, W, ..], confidence [n, H, W]
Activation = Callable[[Tensor], tuple[Tensor, Tensor]]


class DenseStream:
    """One dense head on the images ``frames``; pass ``observe`` to the pass as a TokenObserver."""

    def __init__(
        self,
        name: str,
        head: DenseHead,
        activation: Activation,
        frames: Sequence[int],
        config: NetworkConfig,
        layout: TokenLayout,
        placement: Placement,
        decode_images: int,
        progress: Progress,
    ):
        self._head = head
        self._activation = activation
        self._frames = torch.tensor(frames, dtype=torch.long)
        self._tapped = config.tapped_layers
        self._layout = layout
        self._decode_images = decode_images
        self._progress = progress
        weight = head.norm.weight
        self._scratch = Scratch(weight.device, weight.dtype)
        patches = layout.grid[0] * layout.grid[1]
        self._stores: list[TokenStore | None] = [
            None  # the last tapped layer is decoded immediately
            if layer == max(self._tapped)
            else open_store(
                placement,
                (len(frames), patches, width),
                weight.device,
                weight.dtype,
                f"{name}{level}",
            )
            for level, (layer, width) in enumerate(
                zip(self._tapped, config.dense_channels, strict=True)
            )
        ]
        # [frames, H, W, ..] float32 on the CPU, filled as images are decoded
        self.values: Tensor | None = None
        self.confidence: Tensor | None = None

    def observe(self, layer: int, part: slice, frame: Tensor, joined: Tensor) -> None:
        """Take from the tokens of these images what the head needs of this layer."""
        if layer not in self._tapped:
            return
        first, last = torch.searchsorted(
            self._frames, torch.tensor([part.start, part.stop])
        ).tolist()
        for begin in range(first, last, self._decode_images):
            rows = slice(begin, min(begin + self._decode_images, last))
            images = (self._frames[rows] - part.start).to(frame.device)
            patches = torch.cat((frame[images], joined[images]), dim=-1)[
                :, self._layout.special_tokens :
            ]
            fresh = {
                level: self._head.project(level, patches, self._layout.grid)
                for level, tapped in enumerate(self._tapped)
                if tapped == layer
            }
            if layer == max(self._tapped):
                self._decode(rows, fresh)
            else:
                for level, projected in fresh.items():
                    store = self._stores[level]
                    assert store is not None  # only the last tapped layer has none
                    store.write(rows, projected)

    def output(self) -> tuple[Tensor, Tensor]:
        """Return values and confidence once all images are decoded."""
        assert self.values is not None and self.confidence is not None
        return self.values, self.confidence

    def _decode(self, rows: slice, fresh: dict[int, Tensor]) -> None:
        projections = [
            fresh[level] if store is None else store.read(rows, self._scratch)
            for level, store in enumerate(self._stores)
        ]
        raw = self._head.decode(projections, self._layout.grid, self._progress)
        values, confidence = self._activation(raw)
        if self.values is None or self.confidence is None:
            count = len(self._frames)
            pinned = raw.device.type == "cuda"
            self.values = torch.empty(count, *values.shape[1:], pin_memory=pinned)
            self.confidence = torch.empty(count, *confidence.shape[1:], pin_memory=pinned)
        # With pinned memory the copies do not block. The poses are copied last, which waits for all
        # of these.
        self.values[rows].copy_(values, non_blocking=True)
        self.confidence[rows].copy_(confidence, non_blocking=True)
        self._progress.advance(values.shape[0] * DECODE_COST, "dense heads")


DECODE_COST = 4  # progress units per decoded image, in transformer blocks
