"""Depth as compressed_depth_image_transport sends it: 12 bytes of header, then a 16-bit PNG. Imports no ROS.

Layout: https://github.com/ros-perception/image_transport_plugins, compression_common.h and codec.cpp.
"""

import struct

import cv2
import numpy as np

from vggt3_ros.mapping.codec import MAGIC
from vggt3_ros.ros.images import encoded_size

HEADER = struct.Struct("<iff")  # compression format, then a and b: depth = a / (count - b) for 32FC1


def to_depth(message, width, height, name="depth"):
    """CompressedImage of 16UC1 millimetres or 32FC1 metres, as PNG with or without the header -> (height, width) float32 metres.

    0 where unknown. ValueError for another size or coding (RVL among them).
    """
    data = bytes(message.data)
    plain = data.startswith(MAGIC["png"])
    png = data if plain else data[HEADER.size:]
    if not png.startswith(MAGIC["png"]):
        raise ValueError(f"{name}.data holds no PNG (format '{message.format}'): choose png in the publisher's compressed depth format")
    found = encoded_size(png)
    if found != (width, height):
        raise ValueError(f"{name}.data is {found[0]}x{found[1]}, its image {width}x{height}; register it to the image")
    try:
        counts = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{name}.data cannot be decoded: {error.err}") from error
    if counts is None or counts.shape != (height, width) or counts.dtype != np.uint16:
        raise ValueError(f"{name}.data must be a PNG of one 16-bit channel (format '{message.format}')")
    if plain or message.format.startswith(("16UC1", "mono16")):
        return counts.astype(np.float32) / np.float32(1000)
    if not message.format.startswith("32FC1"):
        raise ValueError(f"{name}.format must begin with 16UC1 or 32FC1, got '{message.format}'")
    _, a, b = HEADER.unpack_from(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.float32(a) / (counts.astype(np.float32) - np.float32(b))
    return np.where((counts > 0) & np.isfinite(metres), metres, 0).astype(np.float32)
