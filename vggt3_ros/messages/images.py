"""Conversion of sensor_msgs Image and CompressedImage to numpy arrays. Sizes are checked before
memory is allocated.
"""

import cv2
import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE, Camera
from vggt3_ros.messages.encodings import COLOR, read_pixels, to_depth, to_rgb
from vggt3_ros.messages.fields import CompressedImage, Image, KeyframeMessage, To8Bits
from vggt3_ros.store.codec import decode_encoded, encoded_size, image_kind

__all__ = ["decompress", "encoded_size", "to_depth", "to_rgb"]


def check_whole(message: KeyframeMessage, camera: Camera) -> None:
    """Raise ValueError if the image or depth of a vggt3_ros/Keyframe is truncated, or if the image
    does not have the camera's size. Nothing is decoded.
    """
    for name in ("image", "depth"):
        raw = getattr(message, name)
        if len(raw.data) < raw.step * raw.height:
            raise ValueError(
                f"{name}.data has {len(raw.data)} bytes for {raw.height} rows of {raw.step}"
            )
        if (
            len(raw.data)
            and name == "image"
            and (raw.width, raw.height) != (camera.width, camera.height)
        ):
            raise ValueError(
                f"image is {raw.width}x{raw.height}, but camera_info says {camera.width}x{camera.height}"
            )
    if not len(message.image.data) and not len(message.compressed_image.data):
        raise ValueError("image and compressed_image are both empty")
    if len(message.compressed_image.data):
        found = encoded_size(bytes(message.compressed_image.data))
        if found != (camera.width, camera.height):
            raise ValueError(
                f"compressed_image.data is {found[0]}x{found[1]}, but camera_info says {camera.width}x{camera.height}"
            )


def decompress(
    message: CompressedImage,
    width: int,
    height: int,
    name: str = "compressed_image",
    to_8_bits: To8Bits | None = None,
) -> tuple[np.ndarray, bytes | None]:
    """Decode a CompressedImage to ((height, width, 3) uint8 RGB, its encoded bytes). The size is
    checked before decoding. Raises ValueError that names the field.

    to_8_bits: conversion of a 16-bit PNG, for which None is returned instead of the bytes; None:
    OpenCV keeps the upper 8 bits.
    """
    data = bytes(message.data)
    try:
        found = encoded_size(data)
        if found != (width, height):
            raise ValueError(f"is {found[0]}x{found[1]}, but camera_info says {width}x{height}")
        if to_8_bits is not None and has_16_bits(data):
            return decode_16_bits(data, width, height, to_8_bits), None
        return decode_encoded(data, width, height), data
    except ValueError as error:
        raise ValueError(f"{name}.data {error} (format '{message.format[:80]}')") from error


def has_16_bits(data: bytes) -> bool:
    """Tell whether an encoded image is a PNG with 16 bits per channel."""
    return image_kind(data) == "png" and len(data) > 24 and data[24] == 16


def decode_16_bits(data: bytes, width: int, height: int, to_8_bits: To8Bits) -> np.ndarray:
    """Decode a 16-bit PNG to (height, width, 3) uint8 RGB. Raises ValueError if it is damaged."""
    return cv2.cvtColor(to_8_bits(_decoded_16_bits(data, width, height)), cv2.COLOR_BGR2RGB)


def _decoded_16_bits(data: bytes, width: int, height: int) -> np.ndarray:
    """Decode a 16-bit PNG to (height, width, 3) uint16 BGR."""
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8),
            cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION,
        )
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err}") from error
    if pixels is None or pixels.shape != (height, width, 3) or pixels.dtype != np.uint16:
        raise ValueError(f"cannot be decoded ({len(data)} bytes)")
    return pixels


def wide(message: Image | CompressedImage) -> list[np.ndarray]:
    """Return the pixels (h, w[, c]) uint16 of a 16-bit Image or CompressedImage in a list, empty
    for other images. Raises ValueError if it cannot be read.
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
        raise ValueError(
            f"image is {width}x{height}: sides must be 1..{MAX_SIDE} pixels, at most {MAX_PIXELS} pixels in total"
        )
    return [_decoded_16_bits(data, width, height)]
