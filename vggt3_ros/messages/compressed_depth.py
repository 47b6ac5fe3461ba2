"""Compressed depth: PNG or RVL of compressed_depth_image_transport, or a plain 16-bit PNG."""

import struct

import cv2
import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE
from vggt3_ros.messages.fields import CompressedImage
from vggt3_ros.messages.rvl import decode_rvl, rvl_size

# of compressed_depth_image_transport: compression format, then the quantization of inverse depth
HEADER = struct.Struct("<iff")
PNG = b"\x89PNG\r\n\x1a\n"


def decompress_depth(
    message: CompressedImage, name: str = "depth", size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode a CompressedImage to depth (height, width) float32, metres, 0 where unknown. size:
    required (width, height), pixels.

    16UC1 holds millimetres. 32FC1 holds v of z = A / (v - B), 0 where unknown, with A and B in the
    header. Raises ValueError that names the invalid field; the size is checked before decoding.
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
                f"is {found[0]}x{found[1]}, but its image is {size[0]}x{size[1]}; register it to the image"
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


def _png_size(png: bytes) -> tuple[int, int]:
    """Read (width, height) from the header of a 16-bit grey PNG. Raises ValueError for others."""
    if len(png) < 29 or png[12:16] != b"IHDR":
        raise ValueError("is not a PNG: its header is truncated")
    width, height = struct.unpack(">II", png[16:24])
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ValueError(
            f"is {width}x{height}: sides must be 1..{MAX_SIDE} pixels, at most {MAX_PIXELS} pixels in total"
        )
    if (png[24], png[25]) != (16, 0):
        raise ValueError("must be a 16-bit PNG with one channel")
    return width, height


def _decoded_png(png: bytes) -> np.ndarray:
    try:
        stored = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err}") from error
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError("must be a 16-bit PNG with one channel")
    return stored


def _rvl_size(coded: bytes, format_: str) -> tuple[int, int]:
    if "rvl" not in format_.lower():
        raise ValueError("is not a PNG, and the format does not name rvl")
    return rvl_size(coded)
