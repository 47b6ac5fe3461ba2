"""sensor_msgs Image and CompressedImage <-> numpy. Sizes are checked against each other before memory is taken.

Reading needs no ROS (bags are read without): the message types are imported where messages are made.
"""

import struct
import sys

import cv2
import numpy as np

from vggt3_ros.mapping.codec import image_kind
from vggt3_ros.ros.encodings import to_depth, to_rgb

__all__ = ["decompress", "encoded_size", "from_depth", "from_encoded", "from_rgb", "to_depth", "to_rgb"]


def decompress(message, width, height, name="compressed_image"):
    """CompressedImage -> ((height, width, 3) uint8 RGB, its bytes). The size is read from the header before it is decoded."""
    data = bytes(message.data)
    try:
        found = encoded_size(data)
    except ValueError as error:
        raise ValueError(f"{name}.data: {error} (format '{message.format}')") from error
    if found != (width, height):
        raise ValueError(f"{name}.data is {found[0]}x{found[1]}, camera_info says {width}x{height}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"{name}.data cannot be decoded: {error.err}") from error
    if image is None or image.shape[:2] != (height, width):
        raise ValueError(f"{name}.data cannot be decoded (format '{message.format}', {len(data)} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), data


def encoded_size(data):
    """(width, height) that the first bytes of a JPEG or PNG announce."""
    if image_kind(data) == "png":
        if len(data) < 24:
            raise ValueError("PNG is cut short")
        return struct.unpack(">II", data[16:24])
    at = 2
    while at + 9 <= len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0]
        if data[at] != 0xFF or length < 2:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack(">HH", data[at + 5:at + 9])
            return width, height
        at += 2 + length
    raise ValueError("JPEG is cut short or damaged")


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
