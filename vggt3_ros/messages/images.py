"""sensor_msgs Image and CompressedImage <-> numpy. Sizes are checked against each other before memory is taken.

Reading needs no ROS (bags are read without): the message types are imported where messages are made.
"""

import sys

import numpy as np

from vggt3_ros.messages.encodings import to_depth, to_rgb
from vggt3_ros.store.codec import decode_encoded, encoded_size, image_kind

__all__ = ["decompress", "encoded_size", "from_depth", "from_encoded", "from_rgb", "to_depth", "to_rgb"]


def decompress(message, width, height, name="compressed_image"):
    """CompressedImage -> ((height, width, 3) uint8 RGB, its bytes). The size is read from the header before it is decoded."""
    data = bytes(message.data)
    try:
        found = encoded_size(data)
        if found != (width, height):
            raise ValueError(f"is {found[0]}x{found[1]}, camera_info says {width}x{height}")
        return decode_encoded(data, width, height), data
    except ValueError as error:
        raise ValueError(f"{name}.data {error} (format '{message.format[:80]}')") from error


def from_rgb(image, header=None):
    """(height, width, 3) uint8 -> Image of rgb8."""
    return _image(image, "rgb8", header)


def from_depth(depth, header=None):
    """(height, width) float32 metres -> Image of 32FC1; uint16 millimetres -> 16UC1."""
    return _image(depth, "16UC1" if depth.dtype == np.uint16 else "32FC1", header)


def _image(array, encoding, header):
    from sensor_msgs.msg import Image

    array = np.ascontiguousarray(array)
    message = Image(height=array.shape[0], width=array.shape[1], encoding=encoding, is_bigendian=sys.byteorder == "big",
                    step=array.strides[0])
    message.data.frombytes(array.data.cast("B"))  # four times faster than assigning bytes
    if header is not None:
        message.header = header
    return message


def from_encoded(data, header=None):
    """JPEG or PNG bytes -> CompressedImage."""
    from sensor_msgs.msg import CompressedImage

    message = CompressedImage(format=image_kind(data))
    message.data.frombytes(data)
    if header is not None:
        message.header = header
    return message
