"""sensor_msgs Image and CompressedImage -> numpy. Sizes are checked against each other before
memory is taken. Imports no ROS.
"""

import cv2
import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE
from vggt3_ros.messages.encodings import COLOR, read_pixels, to_depth, to_rgb
from vggt3_ros.store.codec import decode_encoded, encoded_size, image_kind

__all__ = ["decompress", "encoded_size", "to_depth", "to_rgb"]


def check_whole(message, camera):
    """ValueError where the image or depth of a vggt3_ros/Keyframe is cut short or of another size;
    nothing is decoded.
    """
    for name in ("image", "depth"):
        raw = getattr(message, name)
        if len(raw.data) < raw.step * raw.height:
            raise ValueError(
                f"{name}.data holds {len(raw.data)} bytes for {raw.height} rows of {raw.step}"
            )
        if (
            len(raw.data)
            and name == "image"
            and (raw.width, raw.height) != (camera.width, camera.height)
        ):
            raise ValueError(
                f"image is {raw.width}x{raw.height}, camera_info says {camera.width}x{camera.height}"
            )
    if not len(message.image.data) and not len(message.compressed_image.data):
        raise ValueError("image and compressed_image are both empty")
    if len(message.compressed_image.data):
        found = encoded_size(bytes(message.compressed_image.data))
        if found != (camera.width, camera.height):
            raise ValueError(
                f"compressed_image.data is {found[0]}x{found[1]}, camera_info says {camera.width}x{camera.height}"
            )


def decompress(message, width, height, name="compressed_image", to_8_bits=None):
    """CompressedImage -> ((height, width, 3) uint8 RGB, its bytes). The size is read from the
    header before it is decoded.

    to_8_bits: what becomes of a PNG of 16 bits, instead of whose bytes None is returned; None:
    OpenCV keeps the upper 8.
    """
    data = bytes(message.data)
    try:
        found = encoded_size(data)
        if found != (width, height):
            raise ValueError(f"is {found[0]}x{found[1]}, camera_info says {width}x{height}")
        if to_8_bits is not None and has_16_bits(data):
            return decode_16_bits(data, width, height, to_8_bits), None
        return decode_encoded(data, width, height), data
    except ValueError as error:
        raise ValueError(f"{name}.data {error} (format '{message.format[:80]}')") from error


def has_16_bits(data):
    """Whether a JPEG or PNG is a PNG of 16 bits a channel."""
    return image_kind(data) == "png" and len(data) > 24 and data[24] == 16


def decode_16_bits(data, width, height, to_8_bits):
    """PNG of 16 bits -> (height, width, 3) uint8 RGB."""
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8),
            cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION,
        )
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err}") from error
    if pixels is None or pixels.shape != (height, width, 3) or pixels.dtype != np.uint16:
        raise ValueError(f"cannot be decoded ({len(data)} bytes)")
    return cv2.cvtColor(to_8_bits(pixels), cv2.COLOR_BGR2RGB)


def wide(message):
    """[pixels] (h, w[, c]) uint16 of an Image or CompressedImage of 16 bits; [] of others.
    ValueError where it cannot be read.
    """
    if not hasattr(message, "format"):
        layout = COLOR.get(message.encoding)
        return (
            [read_pixels(message, layout, "image")]
            if layout is not None and layout.dtype == "u2"
            else []
        )
    data = bytes(message.data)
    if not data or not has_16_bits(data):
        return []
    width, height = encoded_size(data)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ValueError(f"image is {width}x{height}")
    pixels = []
    decode_16_bits(
        data, width, height, lambda found: pixels.append(found) or np.zeros(found.shape, np.uint8)
    )
    return pixels
