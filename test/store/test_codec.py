"""Encoded images and depth maps: decoded bit for bit, and refused before memory is allocated if
damaged.
"""

import struct
import zlib

import cv2
import numpy as np
import pytest

from vggt3_ros.store import codec

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (37, 53, 3), np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (15, 15), 5)
EDGES = np.zeros((8, 9, 3), np.uint8)
EDGES[:, ::2] = 255


@pytest.mark.parametrize("image", [NOISE, SMOOTH, EDGES, NOISE[:1, :1], NOISE[:, :1], NOISE[:1]])
def test_an_image_comes_back_bit_for_bit(image):
    data, kind = codec.encode_image(image)
    back = codec.decode_image(data, kind, image.shape[1], image.shape[0])
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, image)


def test_a_smooth_image_takes_less_room_than_its_pixels():
    assert len(codec.encode_image(SMOOTH)[0]) < 0.8 * SMOOTH.nbytes


@pytest.mark.parametrize(
    "depth, kind",
    [
        (np.arange(12, dtype=np.float32).reshape(3, 4) / np.float32(1000), "u16/1000.zstd"),
        (np.arange(12, dtype=np.float32).reshape(3, 4) / np.float32(5000), "u16/5000.zstd"),
        (
            np.arange(12, dtype=np.float32).reshape(3, 4) / np.float32(1000) + np.float32(1e-5),
            "f32.zstd",
        ),
        (np.array([[65.536]], np.float32), "f32.zstd"),
        (np.array([[65.535]], np.float32), "u16/1000.zstd"),
        (np.zeros((5, 4), np.float32), "u16/1000.zstd"),
        (RNG.uniform(0, 200, (31, 17)).astype(np.float32), "f32.zstd"),
    ],
)
def test_depth_comes_back_bit_for_bit_in_sixteen_bits_only_where_it_is_exact(depth, kind):
    data, used = codec.encode_depth(depth)
    back = codec.decode_depth(data, used, depth.shape[1], depth.shape[0])
    assert used == kind and back.dtype == np.float32
    np.testing.assert_array_equal(back.view(np.uint32), depth.view(np.uint32))


@pytest.mark.parametrize("suffix, kind", [(".png", "png"), (".jpg", "jpeg")])
def test_encoded_images_are_recognised_by_their_header(suffix, kind):
    data = cv2.imencode(suffix, NOISE)[1].tobytes()
    assert (codec.image_kind(data), codec.encoded_size(data)) == (kind, (53, 37))
    expected = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    np.testing.assert_array_equal(codec.decode_image(data, kind, 53, 37), expected)
    with pytest.raises(ValueError, match="is 53x37, but its camera is 53x38"):
        codec.decode_image(data, kind, 53, 38)
    for cut in (0, 2, 3, 10, 24, len(data) // 2):
        with pytest.raises(ValueError):
            codec.decode_image(data[:cut], kind, 53, 37)


def _changed(data, at):
    return data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :]


@pytest.mark.parametrize(
    "encoded, decode",
    [
        (codec.encode_image(NOISE), codec.decode_image),
        (codec.encode_depth(NOISE[..., 0].astype(np.float32)), codec.decode_depth),
    ],
)
def test_damaged_data_is_refused_never_returned_as_another_size(encoded, decode):
    data, kind = encoded
    for spoiled in (
        b"",
        data[:-1],
        data[: len(data) // 2],
        data + b"\0",
        _changed(data, 0),
        b"\xff" * len(data),
    ):
        with pytest.raises(ValueError):
            decode(spoiled, kind, 53, 37)
    for width, height in ((53, 36), (54, 37), (1, 1)):
        with pytest.raises(ValueError):
            decode(data, kind, width, height)
    with pytest.raises(ValueError, match="more than"):
        decode(data, kind, 2**20, 2**20)
    with pytest.raises(ValueError):
        decode(data, "of the future", 53, 37)


def test_a_decompression_bomb_is_refused_at_the_expected_size():
    bomb = codec.zstd.compress(bytes(2**26), 1)
    assert len(bomb) < 2**14
    with pytest.raises(ValueError, match="has more bytes"):
        codec.decode_image(bomb, codec.PLANES, 53, 37)


def test_a_png_that_announces_more_than_it_holds_is_refused_by_its_header():
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(head))
        + b"IHDR"
        + head
        + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    )
    with pytest.raises(ValueError, match="is 60000x60000, but its camera is 53x37"):
        codec.decode_image(b"\x89PNG\r\n\x1a\n" + chunk, "png", 53, 37)


def test_the_same_image_is_recognised_in_another_coding_and_another_is_not():
    raw, planes = codec.encode_image(SMOOTH)
    jpeg = cv2.imencode(".jpg", SMOOTH[..., ::-1])[1].tobytes()
    decoded = codec.decode_image(jpeg, "jpeg", 53, 37)
    assert codec.same_image(SMOOTH, None, raw, planes) and codec.same_image(
        decoded, jpeg, jpeg, "jpeg"
    )
    assert codec.same_image(SMOOTH, None, jpeg, "jpeg") and codec.same_image(
        decoded, jpeg, raw, planes
    )
    one_off = SMOOTH.copy()
    one_off[3, 4, 0] ^= 1
    # lossless codings are compared exactly
    assert not codec.same_image(one_off, None, raw, planes)
    assert not codec.same_image(0 * SMOOTH, None, jpeg, "jpeg") and not codec.same_image(
        SMOOTH, None, b"damaged", planes
    )
