"""RVL depth, against an encoder that follows the paper number by number."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vggt3_ros.messages.compressed_depth import decompress_depth
from vggt3_ros.messages.rvl import decode_rvl

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
DEPTHS = arrays(
    np.uint16, SIZES, elements=st.one_of(st.just(0), st.integers(400, 600), st.integers(0, 65535))
)


def encoded(depth):
    nibbles, flat, at, before = [], depth.ravel().tolist(), 0, 0

    def put(number):
        while True:
            number, low = number >> 3, number & 7
            nibbles.append(low | (8 if number else 0))
            if not number:
                return

    while at < len(flat):
        zeros = next((k for k, value in enumerate(flat[at:]) if value), len(flat) - at)
        at += zeros
        count = next((k for k, value in enumerate(flat[at:]) if not value), len(flat) - at)
        put(zeros)
        put(count)
        for value in flat[at : at + count]:
            delta, before = value - before, value
            put(2 * delta if delta >= 0 else -2 * delta - 1)
        at += count
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(nibble << (28 - 4 * k) for k, nibble in enumerate(nibbles[i : i + 8]))
        for i in range(0, len(nibbles), 8)
    ]
    return struct.pack("<II", depth.shape[1], depth.shape[0]) + struct.pack(
        f"<{len(words)}I", *words
    )


@given(DEPTHS)
def test_what_is_encoded_is_decoded(depth):
    np.testing.assert_array_equal(decode_rvl(encoded(depth)), depth)


def test_a_row_computed_by_hand():
    """Two zeros, then 5 and 4: runs of 2 and 2, differences 5 and -1, which are 10 and 1: 2, 2, (2
    and more, 1), 1.
    """
    assert encoded(np.uint16([[0, 0, 5, 4]]))[8:] == struct.pack("<I", 0x22A11000)
    np.testing.assert_array_equal(
        decode_rvl(struct.pack("<III", 4, 1, 0x22A11000)), [[0, 0, 5, 4]]
    )


def test_millimetres_and_metres_as_the_transport_sends_them():
    rng = np.random.default_rng(0)
    depth = np.where(
        rng.random((48, 64)) < 0.3, 0, 1500 + np.cumsum(rng.integers(-9, 10, (48, 64)), axis=1)
    ).astype(np.uint16)
    sent = SimpleNamespace(
        format="16UC1; compressedDepth rvl", data=struct.pack("<iff", 0, 0, 0) + encoded(depth)
    )
    np.testing.assert_allclose(decompress_depth(sent, size=(64, 48)), depth / 1000, rtol=1e-6)
    a, b = 100.0 * 101.0, 1 - 100.0 * 101.0 / 10
    sent = SimpleNamespace(
        format="32FC1; compressedDepth rvl", data=struct.pack("<iff", 0, a, b) + encoded(depth)
    )
    known = depth > 0
    np.testing.assert_allclose(decompress_depth(sent)[known], (a / (depth - b))[known], rtol=1e-5)


@given(DEPTHS, st.data())
def test_damaged_data_give_an_image_or_an_error(depth, data):
    spoilt = bytearray(encoded(depth))
    for at in (
        data.draw(st.lists(st.integers(8, len(spoilt) - 1), max_size=5)) if len(spoilt) > 8 else ()
    ):
        spoilt[at] = data.draw(st.integers(0, 255))
    try:
        assert (
            decode_rvl(bytes(spoilt[: data.draw(st.integers(0, len(spoilt)))])).shape
            == depth.shape
        )
    except ValueError as error:
        assert "RVL" in str(error)


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "truncated"),
        (struct.pack("<II", 10**6, 2), "sides must be"),
        (struct.pack("<II", 4, 4), "end after 0 of 16"),
        (struct.pack("<III", 4, 4, 0), "damaged at pixel 0"),
        (struct.pack("<III", 4, 4, 0xFFFFFFFF) * 2, "damaged|too long|end after"),
    ],
)
def test_what_is_invalid_is_named(data, text):
    with pytest.raises(ValueError, match=text):
        decode_rvl(data)
