"""Header fields of serialized ROS 2 messages (CDR), read without decoding the messages.

A bag has thousands of images of which few are needed. Whether an image is complete, its size and
its frame can be read from its first bytes.
"""

import struct
from typing import NamedTuple

from vggt3_ros.messages.fields import Octets
from vggt3_ros.messages.reading import MAX_FRAME_NAME, NANOSECONDS
from vggt3_ros.store.codec import encoded_size

ENCAPSULATION = 4  # bytes before the message, which alignment does not count
MAX_TEXT = 4096  # bytes of a name


class ImageFacts(NamedTuple):
    """stamp_ns and frame of the header; size: (width, height) pixels, None for a compressed image
    whose size was not requested.
    """

    stamp_ns: int
    frame: str
    size: tuple[int, int] | None


def stamp_of(data: Octets) -> int:
    """Return header.stamp of a message that begins with a header, nanoseconds. Raises ValueError if
    the message is too short.
    """
    return _Reader(data).stamp()


def image_facts(data: Octets, compressed: bool = False, sized: bool = True) -> ImageFacts:
    """Read the ImageFacts of a serialized sensor_msgs/Image or, if `compressed`, CompressedImage.

    sized: read the size of a compressed image from its JPEG or PNG header. Raises ValueError if the
    message is truncated or has fewer bytes of data than its fields require.
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
        raise ValueError(f"data has {len(pixels)} bytes for {height} rows of {step}")
    return ImageFacts(stamp_ns, frame, (width, height))


class _Reader:
    """Read the fields of a message in sequence."""

    def __init__(self, data: Octets) -> None:
        self._data, self._at = memoryview(data), ENCAPSULATION
        if len(self._data) < ENCAPSULATION + 12:
            raise ValueError("the message is too short for its header")
        self._order = "<" if self._data[1] & 1 else ">"

    def number(self, kind: str = "I") -> int:
        self._at += -(self._at - ENCAPSULATION) % 4
        if self._at + 4 > len(self._data):
            raise ValueError("the message is truncated")
        (value,) = struct.unpack_from(self._order + kind, self._data, self._at)
        self._at += 4
        return int(value)

    def stamp(self) -> int:
        seconds = self.number("i")
        return seconds * NANOSECONDS + self.number()

    def text(self) -> str:
        size = self.number()
        if size > MAX_TEXT or self._at + size > len(self._data):
            raise ValueError("the message is truncated, or a name in it is too long")
        text = bytes(self._data[self._at : self._at + max(size - 1, 0)])
        self._at += size
        return text.decode("utf-8", "replace")

    def sequence(self) -> memoryview:
        """Return the bytes of an octet sequence."""
        size = self.number()
        if self._at + size > len(self._data):
            raise ValueError(
                f"the message is truncated: it has {len(self._data) - self._at} of {size} bytes of data"
            )
        return self._data[self._at : self._at + size]

    def skip(self, count: int) -> None:
        self._at += count
