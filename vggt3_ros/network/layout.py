"""How the tokens of one image are laid out: what depends on the image size alone, computed once
per call.
"""

from dataclasses import dataclass

from torch import Tensor

from .rope import RotaryTable


@dataclass(frozen=True)
class TokenLayout:
    """Tokens of an image: one camera token, the registers, then the patches row by row."""

    grid: tuple[int, int]  # patch rows, columns
    special_tokens: int
    rotary: RotaryTable
    positions: Tensor  # the encoder's position embedding of this grid [1, patches, channels]

    @property
    def tokens(self) -> int:
        return self.special_tokens + self.grid[0] * self.grid[1]
