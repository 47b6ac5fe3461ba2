"""Images come to the network at its size, and intrinsics follow them there and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.network.preprocess import network_size, prepare_images


@given(height=st.integers(20, 3000), width=st.integers(20, 3000))
def test_every_size_becomes_one_the_network_takes(height, width):
    rows, columns = network_size(height, width)
    assert (
        rows % 14 == columns % 14 == 0 and max(rows, columns) == 518 and min(rows, columns) >= 14
    )
    if max(height, width) < 5 * min(height, width):
        assert abs(rows / columns / (height / width) - 1) < 0.08  # at most half a patch off


def test_the_published_sizes():
    assert network_size(480, 640) == (392, 518)
    assert network_size(640, 480) == (518, 392)


def test_a_point_keeps_its_place_under_the_resized_intrinsics():
    """A bright spot, projected with the resized camera matrix, is where the resized image is
    brightest.
    """
    image = np.zeros((240, 320, 3), np.uint8)
    image[148:153, 208:213] = 255  # centred on x 210, y 150
    prepared, resizing = prepare_images([image], longer_side=518)
    K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    ray = np.linalg.inv(K) @ (210, 150, 1)
    expected = resizing.intrinsics_to_resized(K) @ ray
    brightness = prepared[0].float().mean(dim=0)
    weight = brightness / brightness.sum()
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float32) for side in brightness.shape), indexing="ij"
    )
    assert float((weight * x).sum()) == pytest.approx(expected[0], abs=0.1)
    assert float((weight * y).sum()) == pytest.approx(expected[1], abs=0.1)
    np.testing.assert_allclose(
        resizing.intrinsics_to_original(resizing.intrinsics_to_resized(K)), K, atol=1e-9
    )


def test_an_image_of_the_right_size_is_not_touched():
    image = np.random.default_rng(0).integers(0, 256, (392, 518, 3), dtype=np.uint8)
    prepared, _ = prepare_images([image, image])
    assert np.array_equal(prepared[1].permute(1, 2, 0).numpy(), image)


@pytest.mark.parametrize(
    "images, word",
    [([], "no images"), ([np.zeros((10, 10, 3), np.float32)], "expected uint8"),
     ([np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8)], "image 1 is")],
)  # fmt: skip
def test_images_that_do_not_fit_are_named(images, word):
    with pytest.raises(ValueError, match=word):
        prepare_images(images)
