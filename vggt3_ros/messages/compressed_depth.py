"""Depth as compressed_depth_image_transport sends it, PNG or RVL, or as a plain 16-bit PNG.
Imports no ROS.
"""

import struct

import cv2
import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE
from vggt3_ros.messages.rvl import decode_rvl, rvl_size

HEADER = struct.Struct("<iff")  # kind of compression, then the two parameters of the inverse depth
PNG = b"\x89PNG\r\n\x1a\n"


def decompress_depth(message, name="depth", size=None):
    """CompressedImage -> (height, width) float32 metres, 0 where unknown. size: (width, height)
    that it must have, pixels.

    A 16UC1 image holds millimetres; a 32FC1 image holds v of z = A / (v - B), 0 where unknown, A
    and B in its header. ValueError names the field that is wrong; the size is read from the header
    before anything is decoded.
    """
    data, format_ = bytes(message.data), str(message.format)[:80]
    headed = not data.startswith(PNG)
    coded = data[HEADER.size :] if headed else data
    try:
        found, decode = (
            (_png_size(coded), _decoded_png)
            if coded.startswith(PNG)
            else (_rvl_size(coded, format_), decode_rvl)
        )
        if size is not None and found != size:
            raise ValueError(
                f"is {found[0]}x{found[1]}, its image {size[0]}x{size[1]}; register it to the image"
            )
        stored = decode(coded)
    except ValueError as error:
        raise ValueError(f"{name}.data {error} (format '{format_}')") from error
    if headed and not format_.startswith(("16UC1", "mono16", "32FC1")):
        raise ValueError(f"{name}.format must begin with 16UC1 or 32FC1, got '{format_}'")
    if not (headed and format_.startswith("32FC1")):
        return stored.astype(np.float32) / np.float32(1000)
    _, a, b = HEADER.unpack_from(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.float32(a) / (stored.astype(np.float32) - np.float32(b))
    return np.where((stored > 0) & np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


def _png_size(png):
    """(width, height) by the header of a PNG of 16 bits. ValueError for another."""
    if len(png) < 29 or png[12:16] != b"IHDR":
        raise ValueError("is no PNG: it is cut short")
    width, height = struct.unpack(">II", png[16:24])
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ValueError(
            f"is {width}x{height}: sides must be 1..{MAX_SIDE} pixels, at most {MAX_PIXELS} in all"
        )
    if (png[24], png[25]) != (16, 0):
        raise ValueError("must be a PNG of one channel of 16 bits")
    return width, height


def _decoded_png(png):
    try:
        stored = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err}") from error
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError("must be a PNG of one channel of 16 bits")
    return stored


def _rvl_size(coded, format_):
    if "rvl" not in format_.lower():
        raise ValueError("is no PNG, and the format does not say rvl")
    return rvl_size(coded)
