"""Depth in RVL, as compressed_depth_image_transport sends it when asked for the format rvl.
Imports no ROS.

A. D. Wilson, Fast Lossless Depth Image Compression, ISS 2017: runs of zeros and of others in turn,
each with its length, the others as differences to the one before; all numbers in groups of three
bits, the fourth says that more follow, the lowest group first.
"""

import struct

import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE

SIZE = struct.Struct("<II")  # width, height
LONGEST = 9  # groups of a number: 27 bits hold any run, and any difference


def rvl_size(data):
    """(width, height) that the data begin with. ValueError where they cannot be."""
    if len(data) < SIZE.size:
        raise ValueError("RVL data are cut short")
    width, height = SIZE.unpack_from(data)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ValueError(
            f"RVL data are of {width}x{height}: sides must be 1..{MAX_SIDE} pixels, at most {MAX_PIXELS} in all"
        )
    return width, height


def decode_rvl(data):
    """Bytes -> (height, width) uint16. ValueError where they are damaged."""
    width, height = rvl_size(data)
    numbers, pixels = _numbers(data[SIZE.size :]), np.zeros(width * height, np.uint16)
    runs, at, done = [], 0, 0
    while done < len(pixels):
        if at + 2 > len(numbers):
            raise ValueError(f"RVL data end after {done} of {len(pixels)} pixels")
        zeros, count = int(numbers[at]), int(numbers[at + 1])
        begin = done + zeros
        done = begin + count
        at += 2 + count
        if done > len(pixels) or at > len(numbers) or not zeros + count:
            raise ValueError(f"RVL data are damaged at pixel {begin} of {len(pixels)}")
        runs.append((begin, done, at - count, at))
    if runs:
        changed = np.concatenate([numbers[first:last] for *_, first, last in runs])
        # modulo 2^16, as the sum of shorts is
        values = np.cumsum((changed >> 1) ^ -(changed & 1)).astype(np.uint16)
        end = 0
        for begin, done, *_ in runs:
            start, end = end, end + done - begin
            pixels[begin:done] = values[start:end]
    return pixels.reshape(height, width)


def _numbers(data):
    """All numbers in the data (N,) int32; zeros at the end fill the last word."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    nibbles = (
        ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).astype(np.uint8).ravel()
    )
    ends = np.flatnonzero(nibbles < 8)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if len(ends) and (ends - starts).max() >= LONGEST:
        raise ValueError("RVL data are damaged: a number is too long")
    nibbles = nibbles[: ends[-1] + 1] if len(ends) else nibbles[:0]
    place = (np.arange(len(nibbles)) - np.repeat(starts, ends - starts + 1)).astype(np.int32)
    return (
        np.add.reduceat((nibbles & 7).astype(np.int32) << (3 * place), starts)
        if len(ends)
        else nibbles.astype(np.int32)
    )
