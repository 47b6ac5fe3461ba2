"""Conversion of raw sensor_msgs/Image pixels to RGB or depth, for every encoding that ROS defines
for a single camera.

Names and layouts are those of sensor_msgs/image_encodings.hpp. Sizes are checked before memory is
allocated.
"""

from typing import NamedTuple

import cv2
import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE
from vggt3_ros.messages.fields import Image, To8Bits


class Layout(NamedTuple):
    """Memory layout of an encoding: dtype and channels of a pixel; conversion: OpenCV's code to
    RGB, None: it is RGB; even: sides that must be even ("w", "h"); chroma_below: rows of chroma
    below the image, in halves of the image height.
    """

    dtype: str
    channels: int
    conversion: int | None
    even: str = ""
    chroma_below: int = 0


GRAY = cv2.COLOR_GRAY2RGB
COLOR = {
    "rgb8": Layout("u1", 3, None),
    "bgr8": Layout("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": Layout("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": Layout("u1", 4, cv2.COLOR_BGRA2RGB),
    "rgb16": Layout("u2", 3, None),
    "bgr16": Layout("u2", 3, cv2.COLOR_BGR2RGB),
    "rgba16": Layout("u2", 4, cv2.COLOR_RGBA2RGB),
    "bgra16": Layout("u2", 4, cv2.COLOR_BGRA2RGB),
    "mono8": Layout("u1", 1, GRAY),
    "mono16": Layout("u2", 1, GRAY),
    "8UC1": Layout("u1", 1, GRAY),
    "16UC1": Layout("u2", 1, GRAY),
    "8UC3": Layout("u1", 3, cv2.COLOR_BGR2RGB),
    "8UC4": Layout("u1", 4, cv2.COLOR_BGRA2RGB),
    "uyvy": Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY, "w"),
    "yuv422": Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY, "w"),
    "yuyv": Layout("u1", 2, cv2.COLOR_YUV2RGB_YUYV, "w"),
    "yuv422_yuy2": Layout("u1", 2, cv2.COLOR_YUV2RGB_YUYV, "w"),
    "nv12": Layout("u1", 1, cv2.COLOR_YUV2RGB_NV12, "wh", 1),
    "nv21": Layout("u1", 1, cv2.COLOR_YUV2RGB_NV21, "wh", 1),
    "nv24": Layout("u1", 1, cv2.COLOR_YUV2RGB_YUYV, "", 4),
}
for _order in ("RGGB", "BGGR", "GBRG", "GRBG"):
    # OpenCV needs at least two rows and columns to interpolate
    for _dtype, _bits in (("u1", 8), ("u2", 16)):
        COLOR[f"bayer_{_order.lower()}{_bits}"] = Layout(
            _dtype, 1, getattr(cv2, f"COLOR_Bayer{_order}2RGB"), "wh"
        )
# dtype, counts per metre
DEPTH = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 1000.0), "mono16": ("u2", 1000.0)}


def upper_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Return the upper 8 bits of uint16 pixels as uint8."""
    return (pixels >> 8).astype(np.uint8)


def to_rgb(message: Image, name: str = "image", to_8_bits: To8Bits = upper_8_bits) -> np.ndarray:
    """Convert an Image to (height, width, 3) uint8 RGB. to_8_bits: conversion of 16-bit pixels (see
    levels.Levels). Raises ValueError that names the invalid field of `name`.
    """
    if message.encoding not in COLOR:
        raise ValueError(
            f"{name}.encoding '{message.encoding[:80]}' is unknown; known: {', '.join(COLOR)}"
        )
    layout = COLOR[message.encoding]
    pixels = read_pixels(message, layout, name)
    if layout.dtype == "u2":
        pixels = to_8_bits(pixels)
    if message.encoding == "nv24":
        return _nv24(pixels, message.height)
    pixels = np.ascontiguousarray(pixels)
    return pixels if layout.conversion is None else cv2.cvtColor(pixels, layout.conversion)


def _nv24(planes: np.ndarray, height: int) -> np.ndarray:
    """Convert NV24, for which OpenCV has no code: double each pixel into a YUYV pair, convert, and
    keep the first of each pair.
    """
    luma, chroma = planes[:height], planes[height:].reshape(height, -1, 2)
    packed = np.empty((height, 2 * luma.shape[1], 2), np.uint8)
    packed[..., 0], packed[:, ::2, 1], packed[:, 1::2, 1] = (
        luma.repeat(2, axis=1),
        chroma[..., 0],
        chroma[..., 1],
    )
    return np.ascontiguousarray(cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_YUYV)[:, ::2])


def to_depth(message: Image, name: str = "depth") -> np.ndarray:
    """Convert an Image of 32FC1 (metres) or 16UC1 (millimetres) to (height, width) float32, metres.
    Raises ValueError that names the invalid field of `name`.
    """
    if message.encoding not in DEPTH:
        raise ValueError(
            f"{name}.encoding '{message.encoding[:80]}' is unknown; known: {', '.join(DEPTH)}"
        )
    dtype, per_metre = DEPTH[message.encoding]
    pixels = read_pixels(message, Layout(dtype, 1, None), name)
    return (
        pixels.astype(np.float32)
        if per_metre == 1
        else pixels.astype(np.float32) / np.float32(per_metre)
    )


def read_pixels(message: Image, layout: Layout, name: str) -> np.ndarray:
    """Return the pixels (rows, width[, channels]) in native byte order, as a view if possible.
    Raises ValueError that names the invalid field of `name`.
    """
    height, width, step = message.height, message.width, message.step
    for side in ("width", "height"):
        if not 1 <= getattr(message, side) <= MAX_SIDE:
            raise ValueError(
                f"{name}.{side} must be 1..{MAX_SIDE} pixels, got {getattr(message, side)}"
            )
        if side[0] in layout.even and getattr(message, side) % 2:
            raise ValueError(
                f"{name}.{side} must be even for {message.encoding}, got {getattr(message, side)}"
            )
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} must have at most {MAX_PIXELS} pixels, got {width}x{height}")
    dtype = np.dtype(layout.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row, rows = (
        width * layout.channels * dtype.itemsize,
        height + layout.chroma_below * height // 2,
    )
    if step < row:
        raise ValueError(
            f"{name}.step must be at least {row} bytes for {width} pixels of {message.encoding}, got {step}"
        )
    if len(message.data) != step * rows:
        raise ValueError(
            f"{name}.data must have step x {rows} rows = {step * rows} bytes, got {len(message.data)}"
        )
    octets = np.frombuffer(message.data, np.uint8).reshape(rows, step)[:, :row]
    if row != step:
        octets = np.ascontiguousarray(octets)
    pixels = octets.view(dtype).reshape(
        (rows, width) if layout.channels == 1 else (rows, width, layout.channels)
    )
    return pixels if pixels.dtype.isnative else pixels.astype(dtype.newbyteorder("="))
