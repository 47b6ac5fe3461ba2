"""Many images in one: each is found again, and coarse levels are means of fine ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggt3_ros.datasets.synthetic.atlas import Atlas, _pack


def images(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


@pytest.mark.parametrize("levels", [1, 5])
def test_every_texel_of_every_image_is_found_at_its_centre(levels):
    made = images((8, 8), (30, 17), (5, 64), (64, 9))
    atlas = Atlas(made, levels)
    for number, image in enumerate(made):
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        uv = np.stack(
            [(columns + 0.5) / image.shape[1], (rows + 0.5) / image.shape[0]], -1
        ).reshape(-1, 2)
        found = atlas.sample(np.full(len(uv), number), uv, np.zeros(len(uv)))
        np.testing.assert_allclose(found.reshape(image.shape), image, atol=0.5)


def test_between_two_texels_lies_their_mean():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 200
    found = Atlas([image]).sample(np.zeros(1, int), np.array([[0.5, 0.5]]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 100, atol=2)


def test_edges_are_continued_and_not_mixed_with_the_neighbour():
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    atlas = Atlas([black, white] * 4)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    for number in range(8):
        for level in (0.0, 1.5, 4.0):
            found = atlas.sample(np.full(4, number), corners, np.full(4, level))
            assert np.abs(found - 255 * (number % 2)).max() < 1


def test_coarse_levels_turn_a_chequered_pattern_even():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    # away from the edges, whose last texel is continued
    atlas, uv = Atlas([board]), np.random.default_rng(1).uniform(0.3, 0.7, (500, 2))
    spread = [
        atlas.sample(np.zeros(500, int), uv, np.full(500, level)).std()
        for level in (0.0, 0.5, 1.0)
    ]
    assert spread[0] > 40 and 0.3 * spread[0] < spread[1] < 0.7 * spread[0] and spread[2] < 2
    beyond = atlas.sample(np.zeros(500, int), uv, np.full(500, 99.0))
    assert beyond.std() < 2 and beyond.mean() == pytest.approx(127.5, abs=2)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=30))
def test_packed_images_lie_inside_and_apart(sizes):
    corners, whole = _pack(np.array(sizes), 16)
    taken = np.zeros(whole, int)
    for (y, x), (height, width) in zip(corners, sizes, strict=True):
        assert y + height <= whole[0] and x + width <= whole[1]
        taken[y : y + height, x : x + width] += 1
    assert taken.max() == 1 and (whole % 16 == 0).all()
