"""RVL depth, as sent by compressed_depth_image_transport with the format rvl.

A. D. Wilson, Fast Lossless Depth Image Compression, ISS 2017. Runs of zeros and of nonzero pixels
alternate, each with its length; a nonzero pixel is the difference to the previous one. All numbers
are split into groups of three bits, lowest first, with a fourth bit that says whether more follow.
"""

import struct

import numpy as np

from vggt3_ros.geometry.camera import MAX_PIXELS, MAX_SIDE

SIZE = struct.Struct("<II")  # width, height
MAX_GROUPS = 9  # of a number: 27 bits hold any run and any difference


def rvl_size(data: bytes) -> tuple[int, int]:
    """Read (width, height) from the beginning of the data. Raises ValueError if implausible."""
    if len(data) < SIZE.size:
        raise ValueError("RVL data are truncated")
    width, height = SIZE.unpack_from(data)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ValueError(
            f"RVL data have {width}x{height} pixels: sides must be 1..{MAX_SIDE} pixels, at most {MAX_PIXELS} pixels in total"
        )
    return width, height


def decode_rvl(data: bytes) -> np.ndarray:
    """Decode to (height, width) uint16. Raises ValueError if the data are damaged."""
    width, height = rvl_size(data)
    numbers, pixels = _numbers(data[SIZE.size :]), np.zeros(width * height, np.uint16)
    runs: list[tuple[int, int, int, int]] = []
    at = done = 0
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
        # modulo 2^16, as the encoder computes the differences
        values = np.cumsum((changed >> 1) ^ -(changed & 1)).astype(np.uint16)
        end = 0
        for begin, done, *_ in runs:
            start, end = end, end + done - begin
            pixels[begin:done] = values[start:end]
    return pixels.reshape(height, width)


def _numbers(data: bytes) -> np.ndarray:
    """Return all numbers in the data, (N,) int32. Trailing zeros pad the last word."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    nibbles = (
        ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).astype(np.uint8).ravel()
    )
    ends = np.flatnonzero(nibbles < 8)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if len(ends) and (ends - starts).max() >= MAX_GROUPS:
        raise ValueError("RVL data are damaged: a number is too long")
    nibbles = nibbles[: ends[-1] + 1] if len(ends) else nibbles[:0]
    place = (np.arange(len(nibbles)) - np.repeat(starts, ends - starts + 1)).astype(np.int32)
    if not len(ends):
        return nibbles.astype(np.int32)
    groups: np.ndarray = (nibbles & 7).astype(np.int32) << (3 * place)
    return np.add.reduceat(groups, starts)
