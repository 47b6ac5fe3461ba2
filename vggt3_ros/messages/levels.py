"""Scaling of 16-bit images to 8 bits. Infrared and thermal sensors use fewer than 16 bits, so one
scale is chosen for a whole sequence.
"""

import logging
from collections.abc import Callable, Iterable

import numpy as np

BITS = 10, 12, 14, 16
IMAGE_BITS = "image_bits"  # note in the store: how many bits the 16-bit images use
GLARE = 1e-3  # share of pixels that may exceed the range: hot pixels, reflections
SAMPLED_IMAGES = 8  # how many images of a recording are examined, evenly spaced

_log = logging.getLogger(__name__)


class Levels:
    """Track how many bits the images of one sequence use, and scale them accordingly. The number
    never decreases, so that the same intensity keeps the same grey value.

    bits: known from before; 0: unknown. look() returns sample images (h, w[, c]) uint16 of the
    sequence; it is called once, before the first conversion. changed(bits) is called when an image
    uses more bits.
    """

    @classmethod
    def noted(
        cls, text: str | None, changed: Callable[[int], object] = lambda bits: None
    ) -> "Levels":
        """Return the levels of the sequence in a store from its note IMAGE_BITS, None if missing."""
        known = text is not None and text in map(str, BITS)
        return cls(int(text) if text is not None and known else 0, changed=changed)

    def __init__(
        self,
        bits: int = 0,
        look: Callable[[], Iterable[np.ndarray]] = lambda: (),
        changed: Callable[[int], object] = lambda bits: None,
    ) -> None:
        self.bits, self._look, self._changed = bits, look, changed

    def to_8_bits(self, pixels: np.ndarray, grow: bool = True) -> np.ndarray:
        """Scale uint16 pixels to uint8. grow: the image belongs to the sequence and may raise the
        number of bits; an image to localize does not.
        """
        look, self._look = self._look, lambda: ()
        for image in (*look(), *((pixels,) if grow or not self.bits else ())):
            found = bits_of(image)
            if found > self.bits:
                if self.bits:
                    _log.warning(
                        "the 16-bit images used %d bits until now and use %d from here on: the same intensity becomes darker",
                        self.bits,
                        found,
                    )
                self.bits = found
                self._changed(found)
        scaled: np.ndarray = np.minimum(pixels >> (self.bits - 8), 255)
        return scaled.astype(np.uint8)


def bits_of(pixels: np.ndarray) -> int:
    """Return the smallest of BITS that holds a uint16 image, ignoring a share GLARE of the pixels."""
    return next(
        (
            bits
            for bits in BITS[:-1]
            if np.count_nonzero(pixels >= 1 << bits) <= GLARE * pixels.size
        ),
        BITS[-1],
    )


def spread(count: int) -> list[int]:
    """Return the indices of at most SAMPLED_IMAGES of `count` images, evenly spaced."""
    if not count:
        return []
    return [
        int(index)
        for index in np.unique(np.linspace(0, count - 1, min(count, SAMPLED_IMAGES)).astype(int))
    ]
