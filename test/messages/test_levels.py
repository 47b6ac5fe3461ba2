"""10, 12 or 14-bit sensors in 16-bit images: one scale for a whole sequence."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vggt3_ros.messages import images
from vggt3_ros.messages.levels import Levels, bits_of, spread


def scene(bits, seed=0, share=0.9):
    """A picture that uses `share` of so many bits."""
    smooth = cv2.resize(
        np.random.default_rng(seed).random((6, 8)), (64, 48), interpolation=cv2.INTER_CUBIC
    ).clip(0, 1)
    return (smooth * share * (2**bits - 1)).astype(np.uint16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_bits_that_are_used_are_found_and_hot_pixels_do_not_count(bits):
    image = scene(bits)
    assert bits_of(image) == bits
    image[3, 4] = 65535
    assert bits_of(image) == bits
    bright = Levels().to_8_bits(image)
    assert (
        bright[3, 4] == 255
        and np.abs(bright.astype(float) - image / 2 ** (bits - 8))[image < 60_000].max() < 1
    )
    assert bright.max() > 200 and np.percentile(bright, 95) > 100  # by 256 it would be black


def test_the_same_intensity_keeps_the_same_grey_value():
    """A dark image after a bright one is scaled as that was."""
    levels = Levels()
    levels.to_8_bits(scene(12))
    dark = scene(12, share=0.1)
    np.testing.assert_array_equal(levels.to_8_bits(dark), dark >> 4)
    assert levels.bits == 12


def test_a_recording_is_sampled_before_its_first_image_is_scaled():
    dark = scene(12, share=0.1)
    levels = Levels(look=lambda: [dark, scene(12)])
    np.testing.assert_array_equal(levels.to_8_bits(dark), dark >> 4)


def test_a_brighter_image_raises_the_bits_with_a_warning(caplog):
    heard = []
    levels = Levels(changed=heard.append)
    levels.to_8_bits(scene(10))
    levels.to_8_bits(scene(14))
    levels.to_8_bits(scene(10))
    assert heard == [10, 14] and "used 10 bits until now and use 14" in caplog.text


def test_an_image_to_be_localized_changes_nothing():
    levels = Levels(bits=10)
    assert levels.to_8_bits(scene(14), grow=False).max() == 255 and levels.bits == 10


def test_images_are_spread_over_a_recording():
    assert (
        spread(0) == []
        and spread(3) == [0, 1, 2]
        and spread(1000)[0] == 0
        and spread(1000)[-1] == 999
        and len(spread(1000)) == 8
    )


@pytest.mark.parametrize("kind", ["raw", "png"])
def test_messages_of_16_bits_are_scaled_whether_raw_or_compressed(kind):
    pixels, levels = scene(12), Levels()
    if kind == "raw":
        message = SimpleNamespace(
            encoding="mono16",
            width=64,
            height=48,
            step=128,
            is_bigendian=False,
            data=pixels.tobytes(),
        )
        rgb, wide = images.to_rgb(message, "image", levels.to_8_bits), images.wide(message)
    else:
        message = SimpleNamespace(
            format="mono16; png compressed", data=cv2.imencode(".png", pixels)[1].tobytes()
        )
        (rgb, encoded), wide = (
            images.decompress(message, 64, 48, to_8_bits=levels.to_8_bits),
            images.wide(message),
        )
        assert encoded is None  # what is stored is what was scaled
    np.testing.assert_array_equal(rgb, np.dstack([pixels >> 4] * 3))
    assert bits_of(wide[0]) == 12
    eight = SimpleNamespace(
        format="png", data=cv2.imencode(".png", (pixels >> 4).astype(np.uint8))[1].tobytes()
    )
    assert (
        images.wide(eight) == []
        and images.decompress(eight, 64, 48, to_8_bits=levels.to_8_bits)[1] == eight.data
    )
