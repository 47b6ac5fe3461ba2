"""Token layout of one image: everything that depends on the image size alone, computed once per
call.
"""

from dataclasses import dataclass

from torch import Tensor

from .rope import RotaryTable


@dataclass(frozen=True)
class TokenLayout:
    """Tokens of an image, in order: one camera token, the registers, the patches row by row."""

    grid: tuple[int, int]  # patch rows, columns
    special_tokens: int
    rotary: RotaryTable
    positions: Tensor  # position embedding of the encoder for this grid [1, patches, channels]

    @property
    def tokens(self) -> int:
        return self.special_tokens + self.grid[0] * self.grid[1]
