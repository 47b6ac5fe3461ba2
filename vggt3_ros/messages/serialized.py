"""What serialized messages say of themselves, read without decoding them: CDR as ROS 2 writes it.
Imports no ROS.

A bag has thousands of images of which few are wanted: whether each is whole, how large it is and
whose, its first bytes tell.
"""

import struct
from typing import NamedTuple

from vggt3_ros.messages.reading import MAX_FRAME_NAME, NANOSECONDS
from vggt3_ros.store.codec import encoded_size

ENCAPSULATION = 4  # bytes before the message, which alignment does not count
MAX_TEXT = 4096  # bytes of a name


class ImageFacts(NamedTuple):
    """stamp_ns and frame of the header; size: (width, height) pixels, None where a compressed
    image does not say.
    """

    stamp_ns: int
    frame: str
    size: tuple | None


def stamp_of(data):
    """header.stamp of a message that begins with a header, nanoseconds. ValueError where there is
    none.
    """
    return _Reader(data).stamp()


def image_facts(data, compressed=False, sized=True):
    """ImageFacts of a sensor_msgs/Image, or CompressedImage (JPEG or PNG, whose size is looked for
    if `sized`).

    ValueError where the message is cut short or holds another number of bytes than its fields say.
    """
    reader = _Reader(data)
    stamp_ns, frame = reader.stamp(), reader.text()
    if len(frame) > MAX_FRAME_NAME or not frame.isprintable():
        raise ValueError(
            f"header.frame_id must be at most {MAX_FRAME_NAME} printable characters, got {len(frame)}"
        )
    if compressed:
        reader.text()
        pixels = reader.sequence()
        return ImageFacts(stamp_ns, frame, encoded_size(bytes(pixels)) if sized else None)
    height, width = reader.number(), reader.number()
    reader.text()
    reader.skip(1)
    step = reader.number()
    if not len(pixels := reader.sequence()) or len(pixels) < step * height:
        raise ValueError(f"data holds {len(pixels)} bytes for {height} rows of {step}")
    return ImageFacts(stamp_ns, frame, (width, height))


class _Reader:
    """Fields one after the other."""

    def __init__(self, data):
        self._data, self._at = memoryview(data), ENCAPSULATION
        if len(self._data) < ENCAPSULATION + 12:
            raise ValueError("the message is too short for its header")
        self._order = "<" if self._data[1] & 1 else ">"

    def number(self, kind="I"):
        self._at += -(self._at - ENCAPSULATION) % 4
        if self._at + 4 > len(self._data):
            raise ValueError("the message is cut short")
        (value,) = struct.unpack_from(self._order + kind, self._data, self._at)
        self._at += 4
        return value

    def stamp(self):
        seconds = self.number("i")
        return seconds * NANOSECONDS + self.number()

    def text(self):
        size = self.number()
        if size > MAX_TEXT or self._at + size > len(self._data):
            raise ValueError("the message is cut short, or a name in it too long")
        text = bytes(self._data[self._at : self._at + max(size - 1, 0)])
        self._at += size
        return text.decode("utf-8", "replace")

    def sequence(self):
        """The bytes of an octet sequence."""
        size = self.number()
        if self._at + size > len(self._data):
            raise ValueError(
                f"the message is cut short: {len(self._data) - self._at} of {size} bytes of data are there"
            )
        return self._data[self._at : self._at + size]

    def skip(self, count):
        self._at += count
