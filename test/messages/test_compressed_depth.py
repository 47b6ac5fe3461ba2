"""compressedDepth messages built by hand, as the transport's publisher writes them."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vggt3_ros.messages.compressed_depth import decompress_depth


def png(counts):
    return cv2.imencode(".png", counts)[1].tobytes()


def sent(counts, format, a=0.0, b=0.0):
    return SimpleNamespace(format=format, data=struct.pack("<iff", 0, a, b) + png(counts))


COUNTS = np.random.default_rng(0).integers(0, 9000, (6, 8), np.uint16)


@pytest.mark.parametrize(
    "format",
    ["16UC1; compressedDepth png", "16UC1; compressedDepth", "mono16; compressedDepth png"],
)
def test_millimetres(format):
    np.testing.assert_allclose(
        decompress_depth(sent(COUNTS, format), size=(8, 6)), COUNTS / 1000, rtol=1e-6
    )


def test_metres_are_inverse_depth_as_the_transport_quantises_it():
    depth = np.random.default_rng(1).uniform(0.4, 9.5, (6, 8)).astype(np.float32)
    depth[2, 3] = np.nan
    quantization, largest = 100.0, 10.0  # the transport's defaults: png levels and depth_max
    a = quantization * (quantization + 1)
    b = 1 - a / largest
    counts = np.where(np.isfinite(depth), a / depth + b, 0).astype(np.uint16)
    found = decompress_depth(sent(counts, "32FC1; compressedDepth png", a, b))
    assert found[2, 3] == 0 and found.dtype == np.float32
    known = np.isfinite(depth)
    np.testing.assert_allclose(found[known], depth[known], atol=0.012)


def test_a_plain_16_bit_png_is_millimetres():
    np.testing.assert_allclose(
        decompress_depth(SimpleNamespace(format="png", data=png(COUNTS))), COUNTS / 1000, rtol=1e-6
    )


@pytest.mark.parametrize(
    "message, text",
    [
        (SimpleNamespace(format="16UC1; compressedDepth rvl", data=bytes(40)), "sides must be"),
        (
            SimpleNamespace(format="16UC1; compressedDepth png", data=bytes(40)),
            "is not a PNG, and the format does not name rvl",
        ),
        (
            SimpleNamespace(
                format="16UC1; compressedDepth rvl",
                data=bytes(12) + struct.pack("<II", 9, 6) + bytes(40),
            ),
            "is 9x6, but its image is 8x6",
        ),
        (SimpleNamespace(format="", data=b""), "is not a PNG"),
        (sent(COUNTS[:5], "16UC1; compressedDepth png"), "is 8x5, but its image is 8x6"),
        (
            sent(COUNTS.astype(np.uint8), "16UC1; compressedDepth png"),
            "16-bit PNG with one channel",
        ),
        (sent(COUNTS, "bgr8; compressedDepth png"), "format must begin with"),
        (
            SimpleNamespace(format="16UC1; compressedDepth png", data=sent(COUNTS, "").data[:60]),
            "16-bit PNG with one channel|cannot be decoded",
        ),
        (
            SimpleNamespace(format="16UC1; compressedDepth png", data=sent(COUNTS, "").data[:24]),
            "is not a PNG",
        ),
    ],
)
def test_what_cannot_be_read_is_named(message, text):
    with pytest.raises(ValueError, match=text):
        decompress_depth(message, size=(8, 6))
