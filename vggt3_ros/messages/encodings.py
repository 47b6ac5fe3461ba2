"""Raw pixels of a sensor_msgs/Image -> RGB or metres, for every encoding that ROS names for one
camera.

Names and layouts: sensor_msgs/image_encodings.hpp. Sizes are checked against each other before
memory is taken. Imports no ROS.
"""

from typing import NamedTuple

import cv2
import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE


class Layout(NamedTuple):
    """dtype and channels of a pixel; conversion: OpenCV's code to RGB, None: is RGB; even: sides
    that must be even (w, h); chroma_below: so many half rows for each row hold the chroma, below
    the image.
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
    # OpenCV needs two rows and columns to interpolate between
    for _dtype, _bits in (("u1", 8), ("u2", 16)):
        COLOR[f"bayer_{_order.lower()}{_bits}"] = Layout(
            _dtype, 1, getattr(cv2, f"COLOR_Bayer{_order}2RGB"), "wh"
        )
# dtype, counts per metre
DEPTH = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 1000.0), "mono16": ("u2", 1000.0)}


def to_rgb(message, name="image", to_8_bits=lambda pixels: (pixels >> 8).astype(np.uint8)):
    """Image -> (height, width, 3) uint8 RGB. to_8_bits: what becomes of 16 (see levels.Levels); by
    default their upper 8 are kept. ValueError names the field of `name` that is wrong.
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


def _nv24(planes, height):
    """OpenCV has no code for chroma as fine as the luma: each pixel becomes a pair in yuyv, of
    which the first is kept.
    """
    luma, chroma = planes[:height], planes[height:].reshape(height, -1, 2)
    packed = np.empty((height, 2 * luma.shape[1], 2), np.uint8)
    packed[..., 0], packed[:, ::2, 1], packed[:, 1::2, 1] = (
        luma.repeat(2, axis=1),
        chroma[..., 0],
        chroma[..., 1],
    )
    return np.ascontiguousarray(cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_YUYV)[:, ::2])


def to_depth(message, name="depth"):
    """Image of 32FC1 metres or 16UC1 millimetres -> (height, width) float32 metres."""
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


def read_pixels(message, layout, name):
    """(rows, width[, channels]) of `layout` in this machine's byte order, a view where
    possible.
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
            f"{name}.data must hold step x {rows} rows = {step * rows} bytes, got {len(message.data)}"
        )
    octets = np.frombuffer(message.data, np.uint8).reshape(rows, step)[:, :row]
    if row != step:
        octets = np.ascontiguousarray(octets)
    pixels = octets.view(dtype).reshape(
        (rows, width) if layout.channels == 1 else (rows, width, layout.channels)
    )
    return pixels if pixels.dtype.isnative else pixels.astype(dtype.newbyteorder("="))
