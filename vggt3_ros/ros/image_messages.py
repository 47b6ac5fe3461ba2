"""Convert numpy arrays to sensor_msgs Image and CompressedImage. The inverse is
messages/images.py.
"""

import sys

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from vggt3_ros.store.codec import image_kind


def from_rgb(image, header=None):
    """Convert (height, width, 3) uint8 to an Image of rgb8."""
    return _image(image, "rgb8", header)


def from_depth(depth, header=None):
    """Convert (height, width) float32 metres to an Image of 32FC1, uint16 millimetres to 16UC1."""
    return _image(depth, "16UC1" if depth.dtype == np.uint16 else "32FC1", header)


def _image(array, encoding, header):
    array = np.ascontiguousarray(array)
    message = Image(
        height=array.shape[0],
        width=array.shape[1],
        encoding=encoding,
        is_bigendian=sys.byteorder == "big",
        step=array.strides[0],
    )
    message.data.frombytes(array.data.cast("B"))  # four times faster than assigning bytes
    if header is not None:
        message.header = header
    return message


def from_encoded(data, header=None):
    """Convert JPEG or PNG bytes to a CompressedImage."""
    message = CompressedImage(format=image_kind(data))
    message.data.frombytes(data)
    if header is not None:
        message.header = header
    return message
