"""Image messages built byte by byte, compared with the picture they hold."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vggt3_ros.messages.encodings import COLOR, to_depth, to_rgb

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))


def message(pixels, encoding, padding=0, big=False, height=None):
    """An Image of (rows, width[, channels]) pixels with `padding` bytes of noise after each
    row.
    """
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    noise = np.random.default_rng(0).integers(0, 256, (len(rows), padding), np.uint8)
    return SimpleNamespace(
        encoding=encoding,
        height=height or len(pixels),
        width=pixels.shape[1],
        is_bigendian=big,
        step=rows.shape[1] + padding,
        data=np.hstack([rows, noise]).tobytes(),
    )


def as_sent(rgb, encoding):
    """RGB pixels as `encoding` has them."""
    alpha = np.full(rgb.shape[:2] + (1,), 77, np.uint8)
    color = {
        "rgb": rgb,
        "bgr": rgb[..., ::-1],
        "rgba": np.dstack([rgb, alpha]),
        "bgra": np.dstack([rgb[..., ::-1], alpha]),
        "8UC3": rgb[..., ::-1],
        "8UC4": np.dstack([rgb[..., ::-1], alpha]),
    }
    name = encoding if encoding in color else encoding.rstrip("0123456789")
    return color[name].astype(np.uint16) << 8 | 0x5A if encoding.endswith("16") else color[name]


@pytest.mark.parametrize(
    "encoding",
    ["rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "8UC4", "rgb16", "bgr16", "rgba16", "bgra16"],
)
@given(arrays(np.uint8, SIZES), st.integers(0, 5), st.booleans())
def test_colours_come_through_whatever_the_order_padding_and_bytes(encoding, rgb, padding, big):
    np.testing.assert_array_equal(
        to_rgb(message(as_sent(rgb, encoding), encoding, padding, big)), rgb
    )


@pytest.mark.parametrize(
    "encoding, dtype",
    [("mono8", np.uint8), ("8UC1", np.uint8), ("mono16", np.uint16), ("16UC1", np.uint16)],
)
@given(st.data(), st.integers(0, 5), st.booleans())
def test_grey_becomes_three_equal_channels(encoding, dtype, data, padding, big):
    gray = data.draw(arrays(dtype, (3, 5)))
    upper = gray if dtype == np.uint8 else gray >> 8
    np.testing.assert_array_equal(
        to_rgb(message(gray, encoding, padding, big)), np.dstack([upper] * 3)
    )


@pytest.mark.parametrize("bits, big", [(8, False), (16, False), (16, True)])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_gives_back_the_colour_of_even_areas(pattern, bits, big):
    colors = {"r": 210, "g": 120, "b": 40}
    tile = np.array([colors[c] for c in pattern]).reshape(2, 2)
    raw = np.tile(tile, (6, 7)).astype(np.uint8 if bits == 8 else np.uint16) << (bits - 8)
    rgb = to_rgb(message(raw, f"bayer_{pattern}{bits}", 3 * (bits // 8), big))
    assert rgb.shape == (12, 14, 3)
    np.testing.assert_array_equal(rgb, np.broadcast_to([210, 120, 40], rgb.shape))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_keeps_a_picture_where_it_is(pattern):
    """A smooth picture, sampled as a sensor does, is recovered: no shift by a pixel, no exchange
    of channels.
    """
    y, x = np.mgrid[0:48, 0:64].astype(float)
    rgb = np.stack(
        [128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 8), 128 + 90 * np.sin((x + y) / 11)],
        axis=-1,
    ).astype(np.uint8)
    channel = np.tile(np.array(["rgb".index(c) for c in pattern]).reshape(2, 2), (24, 32))
    raw = np.take_along_axis(rgb, channel[..., None], axis=2)[..., 0]
    inner = np.s_[2:-2, 2:-2]
    assert (
        np.abs(to_rgb(message(raw, f"bayer_{pattern}8"))[inner].astype(int) - rgb[inner]).max()
        <= 3
    )


def yuv(rgb):
    """Y, U, V planes (BT.601, as video has it)."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))


def blocks():
    """Random colours in 2x2 blocks, so that halving the chroma loses nothing, and their Y, U,
    V.
    """
    rgb = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).repeat(2, axis=0).repeat(2, axis=1)
    return rgb, *yuv(rgb)


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
@pytest.mark.parametrize("padding", [0, 4])
def test_packed_yuv(encoding, padding):
    rgb, y, u, v = blocks()
    chroma = np.where(np.arange(y.shape[1]) % 2 == 0, u, v)
    packed = np.dstack([chroma, y] if encoding in ("uyvy", "yuv422") else [y, chroma])
    assert np.abs(to_rgb(message(packed, encoding, padding)).astype(int) - rgb).max() <= 4


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 6])
def test_yuv_with_its_chroma_below(encoding, padding):
    rgb, y, u, v = blocks()
    order = (u, v) if encoding == "nv12" else (v, u)
    below = np.dstack([plane[::2, ::2] for plane in order]).reshape(len(y) // 2, -1)
    planes = np.vstack([y, below])
    assert (
        np.abs(to_rgb(message(planes, encoding, padding, height=len(y))).astype(int) - rgb).max()
        <= 4
    )


def test_yuv_with_chroma_of_every_pixel():
    rgb = np.random.default_rng(1).integers(0, 256, (5, 7, 3))
    y, u, v = yuv(rgb)
    planes = np.vstack([y, np.dstack([u, v]).reshape(10, 7)])
    assert np.abs(to_rgb(message(planes, "nv24", height=5)).astype(int) - rgb).max() <= 4


@given(arrays(np.uint16, (3, 4)), st.integers(0, 5), st.booleans())
def test_millimetres_become_metres(counts, padding, big):
    depth = to_depth(message(counts, "16UC1", padding, big))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, counts / 1000, rtol=1e-6)


@given(
    arrays(np.float32, (3, 4), elements=st.floats(0, 100, width=32)),
    st.integers(0, 7),
    st.booleans(),
)
def test_metres_stay_metres(metres, padding, big):
    metres[0, 0] = np.nan
    np.testing.assert_array_equal(to_depth(message(metres, "32FC1", padding, big)), metres)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"encoding": "yuv_nonsense"}, "'yuv_nonsense' is unknown"),
        ({"width": 0}, "width must be 1"),
        ({"height": 10**6}, "height must be 1"),
        ({"step": 5}, "step must be at least 24"),
        ({"data": b"1234"}, "data must have"),
        ({"height": 7}, "data must have"),
        ({"encoding": "nv12", "width": 7}, "width must be even for nv12"),
        ({"encoding": "bayer_rggb8", "height": 5}, "height must be even"),
    ],
)
def test_what_does_not_fit_is_named(change, text):
    bad = message(np.zeros((6, 8, 3), np.uint8), "rgb8")
    bad.__dict__.update(change)
    with pytest.raises(ValueError, match=text):
        to_rgb(bad, "picture")


@pytest.mark.parametrize("encoding", COLOR)
@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 60),
    st.booleans(),
    st.binary(max_size=600),
)
def test_any_bytes_give_an_image_or_an_error(encoding, height, width, step, big, data):
    sent = SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=big, data=data
    )
    try:
        assert to_rgb(sent).shape == (height, width, 3)
    except ValueError as error:
        assert str(error).startswith("image.")


def test_opencv_is_given_what_it_can_interpolate():
    """The smallest pictures of each encoding: OpenCV refuses or crashes on less than a tile."""
    for encoding, layout in COLOR.items():
        size = 2 if layout.even else 1
        rows = size + layout.chroma_below * size // 2
        pixels = np.zeros((rows, size, layout.channels), layout.dtype)
        assert to_rgb(message(pixels, encoding, height=size)).shape == (size, size, 3), encoding
