"""Compressed images and whole messages: sizes are checked before anything is decoded, and 16-bit
images keep their scale.
"""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages import images
from vggt3_ros.messages.levels import Levels, bits_of

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
PIXELS = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (64, 48)
)  # smooth, as JPEG likes it


def compressed(suffix=".png", pixels=PIXELS):
    return SimpleNamespace(
        format=f"rgb8; {suffix[1:]} compressed", data=cv2.imencode(suffix, pixels)[1].tobytes()
    )


def raw(width=0, height=0, channels=3):
    step = width * channels
    return SimpleNamespace(width=width, height=height, step=step, data=bytes(step * height))


def keyframe(image=None, depth=None, encoded=None):
    return SimpleNamespace(
        image=image or raw(),
        depth=depth or raw(),
        compressed_image=encoded or SimpleNamespace(data=b""),
    )


def test_an_image_and_its_bytes_come_back():
    message = compressed()
    image, encoded = images.decompress(message, 64, 48)
    np.testing.assert_array_equal(image, PIXELS[..., ::-1])  # imencode takes BGR
    assert encoded == message.data
    image, encoded = images.decompress(compressed(".jpg"), 64, 48)
    assert np.abs(image.astype(int) - PIXELS[..., ::-1]).mean() < 5


def test_the_size_is_checked_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "decode_encoded", lambda *arguments: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="right.data is 64x48, but camera_info says 65x48 .*png"):
        images.decompress(compressed(), 65, 48, "right")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        compressed().data[:20],
        compressed().data[:-200],
        compressed(".jpg").data[:90],
    ],
)
def test_damaged_images_name_their_field(data):
    with pytest.raises(ValueError, match="compressed_image.data .*format 'jpeg'"):
        images.decompress(SimpleNamespace(format="jpeg", data=data), 64, 48)


def test_only_a_png_can_have_16_bits():
    wide = compressed(pixels=PIXELS.astype(np.uint16) << 4)
    assert images.has_16_bits(wide.data)
    assert not images.has_16_bits(compressed().data)
    assert not images.has_16_bits(compressed(".jpg").data)
    with pytest.raises(ValueError):
        images.has_16_bits(b"BM")


def test_16_bits_are_scaled_in_colour_too():
    message = compressed(pixels=PIXELS.astype(np.uint16) << 4)  # 12 bits
    image, encoded = images.decompress(message, 64, 48, to_8_bits=Levels().to_8_bits)
    np.testing.assert_array_equal(image, PIXELS[..., ::-1])
    assert encoded is None  # the bytes are not what is seen
    (pixels,) = images.wide(message)
    assert pixels.dtype == np.uint16 and bits_of(pixels) == 12
    assert images.wide(SimpleNamespace(format="", data=b"")) == []


def test_a_16_bit_image_too_large_is_refused_by_its_header():
    data = bytearray(compressed(pixels=PIXELS.astype(np.uint16)).data)
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ValueError, match="60000x60000"):
        images.wide(SimpleNamespace(format="png", data=bytes(data)))


@pytest.mark.parametrize(
    "message",
    [
        keyframe(raw(64, 48)),
        keyframe(raw(64, 48), depth=raw(64, 48, 4)),
        keyframe(encoded=compressed()),
        keyframe(encoded=compressed(".jpg")),
    ],
)
def test_a_complete_message_passes(message):
    images.check_whole(message, CAMERA)


def cut(image):
    image.data = image.data[:-1]
    return image


@pytest.mark.parametrize(
    "message, words",
    [
        (keyframe(), "image and compressed_image are both empty"),
        (keyframe(cut(raw(64, 48))), "image.data has 9215 bytes for 48 rows of 192"),
        (keyframe(raw(64, 48), cut(raw(64, 48, 4))), "depth.data has 12287 bytes"),
        (keyframe(raw(48, 64)), "image is 48x64, but camera_info says 64x48"),
        (keyframe(encoded=compressed(pixels=PIXELS[:40])), "compressed_image.data is 64x40"),
    ],
)
def test_a_truncated_or_foreign_message_is_refused(message, words):
    with pytest.raises(ValueError, match=words):
        images.check_whole(message, CAMERA)
