"""2-D rotary position embedding over a patch grid (RoFormer, arXiv 2104.09864; each half of the
head dimension encodes one axis).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RotaryTable:
    """Cosine and signed sine [tokens, 1, head_dim] of one image's tokens; broadcast over images
    and heads.
    """

    cos: Tensor
    # negated on the first half of each axis, so that a rotation is a swap of halves and two
    # products
    sin: Tensor


def rotary_table(
    grid: tuple[int, int],
    special_tokens: int,
    head_dim: int,
    base: float,
    device: torch.device,
    dtype: torch.dtype,
) -> RotaryTable:
    """Return the table of the special tokens (position 0) followed by the patches, row by row
    (positions start at 1).

    The first half of the head dimension encodes the row, the second half the column. ``base`` is
    the base of the frequencies.
    """
    rows, columns = grid
    y = torch.arange(1, rows + 1, device=device).repeat_interleave(columns)
    x = torch.arange(1, columns + 1, device=device).repeat(rows)
    position = torch.zeros(special_tokens + rows * columns, 2, device=device)
    position[special_tokens:, 0] = y
    position[special_tokens:, 1] = x

    axis_dim = head_dim // 2
    frequency = base ** -(
        torch.arange(0, axis_dim, 2, device=device, dtype=torch.float32) / axis_dim
    )
    angle = position[:, :, None] * frequency  # [tokens, axis, axis_dim / 2]
    cos = torch.cat((angle.cos(), angle.cos()), dim=-1).flatten(1)
    sin = torch.cat((-angle.sin(), angle.sin()), dim=-1).flatten(1)
    return RotaryTable(cos[:, None].to(dtype), sin[:, None].to(dtype))


def rotate(x: Tensor, table: RotaryTable) -> Tensor:
    """Rotate x [images, tokens, heads, head_dim] by the positions of its tokens."""
    quarter = x.shape[-1] // 4
    # swap the two halves of each axis
    swapped = x.unflatten(-1, (2, 2, quarter)).flip(-2).flatten(-3)
    return torch.addcmul(x * table.cos, swapped, table.sin)
