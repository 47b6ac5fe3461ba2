"""16-bit images of sensors that have fewer bits (infrared, thermal): one scale for a whole
sequence. Imports no ROS.
"""

import logging

import numpy as np

BITS = 10, 12, 14, 16
IMAGE_BITS = "image_bits"  # note in the store of a node: so many bits its 16-bit images hold
GLARE = 1e-3  # share of the pixels that may lie above: hot ones, reflections
LOOKED_AT = 8  # images of a recording, spread over it

_log = logging.getLogger(__name__)


class Levels:
    """How many bits the images of one sequence use, found by what they hold; it never shrinks, so
    that one light stays one grey.

    bits: as known from before, 0: not yet. look() -> some (h, w[, c]) uint16 images of the
    sequence, asked once before the first is converted. changed(bits) is called when more are
    found.
    """

    @classmethod
    def noted(cls, text, changed=lambda bits: None):
        """Of the sequence in a store, by its note IMAGE_BITS (None: there is none)."""
        return cls(int(text) if text in map(str, BITS) else 0, changed=changed)

    def __init__(self, bits=0, look=lambda: (), changed=lambda bits: None):
        self.bits, self._look, self._changed = bits, look, changed

    def to_8_bits(self, pixels, grow=True):
        """uint16 -> uint8. grow: the image is one of the sequence, else (to be localized) it is
        only scaled as those are.
        """
        look, self._look = self._look, lambda: ()
        for image in (*look(), *((pixels,) if grow or not self.bits else ())):
            found = bits_of(image)
            if found > self.bits:
                if self.bits:
                    _log.warning(
                        "images of 16 bits held %d until now, and hold %d: the same light is darker from here on",
                        self.bits,
                        found,
                    )
                self.bits = found
                self._changed(found)
        return np.minimum(pixels >> (self.bits - 8), 255).astype(np.uint8)


def bits_of(pixels):
    """The least of BITS that holds a uint16 image, but for glare."""
    return next(
        (
            bits
            for bits in BITS[:-1]
            if np.count_nonzero(pixels >= 1 << bits) <= GLARE * pixels.size
        ),
        BITS[-1],
    )


def spread(count):
    """Indices of at most LOOKED_AT of so many images."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int)).tolist()
        if count
        else []
    )
