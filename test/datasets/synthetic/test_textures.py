"""Materials: their colour, repeatable, and different from piece to piece."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import textures

COLOR = (170, 120, 80)
SIZE = (90, 140)
MATERIALS = {
    "plain": textures.plain,
    "wood": textures.wood,
    "wood along": lambda rng, size, color: textures.wood(rng, size, color, along=0),
    "fabric": textures.fabric,
    "stone": textures.stone,
}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("material", MATERIALS.values(), ids=MATERIALS)
def test_a_material_has_its_colour_and_some_texture(material):
    image = material(rng(), SIZE, COLOR)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    # hue and saturation are those of the colour; brightness varies about it
    mean = image.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(mean / mean.sum(), np.array(COLOR) / sum(COLOR), atol=0.01)
    assert mean.sum() == pytest.approx(sum(COLOR), rel=0.15)
    assert 1 < image[..., 0].std() < 60


@pytest.mark.parametrize("material", MATERIALS.values(), ids=MATERIALS)
def test_pieces_differ_and_a_state_repeats_them(material):
    state = rng(4)
    first, second = material(state, SIZE, COLOR), material(state, SIZE, COLOR)
    assert np.array_equal(first, material(rng(4), SIZE, COLOR))
    assert np.abs(first.astype(int) - second).mean() > 0.5


def test_grain_runs_along_the_axis_that_is_asked_for():
    for along in (0, 1):
        grey = textures.wood(rng(), (200, 200), COLOR, along).astype(float).mean(axis=-1)
        across = np.abs(np.diff(grey, axis=1 - along)).mean()
        assert np.abs(np.diff(grey, axis=along)).mean() < 0.6 * across


def test_noise_is_even_and_as_coarse_as_its_cell():
    fine, coarse = (textures.noise(rng(), (400, 400), (cell, cell)) for cell in (4, 40))
    for made in (fine, coarse):
        assert made.dtype == np.float32 and abs(made.mean()) < 0.4
        assert 0.6 < made.std() < 1.4
    assert np.abs(np.diff(coarse)).mean() < 0.3 * np.abs(np.diff(fine)).mean()


def test_tiles_are_separated_by_gaps_and_rows_are_shifted():
    red = lambda rng, size: np.full((*size, 3), (200, 30, 30), np.uint8)
    image = textures.tiling(rng(), (60, 120), (20, 40), red, gap=2, shift=0.5, vary=0.0)
    gaps = image[..., 1].astype(int) > 90
    assert gaps[18:20].all() and gaps[38:40].all()  # between the rows
    columns = [np.flatnonzero(gaps[y]).tolist() for y in (10, 30, 50)]
    assert columns[0] == [38, 39, 78, 79, 118, 119]
    assert columns[1] == [18, 19, 58, 59, 98, 99] and columns[2] == columns[0]


def test_a_crop_keeps_the_aspect_and_has_the_size_that_is_asked_for():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :, 0] = np.arange(200)
    piece = textures.crop(rng(1), image, (50, 50), zoom=2.0)
    assert piece.shape == (50, 50, 3)
    # half of the largest square: 50 of the 200 columns, perhaps mirrored
    assert abs(int(piece[0, -1, 0]) - int(piece[0, 0, 0])) == pytest.approx(49, abs=2)


def test_muted_colours_stay_in_their_ranges():
    colors = np.array([textures.muted(rng(seed), (0.3, 0.6), (0.1, 0.5)) for seed in range(200)])
    value, saturation = colors.max(axis=1) / 255, 1 - colors.min(axis=1) / colors.max(axis=1)
    for values, low, high in ((value, 0.3, 0.6), (saturation, 0.1, 0.5)):
        assert low - 0.01 < values.min() < low + 0.1 and high - 0.1 < values.max() < high + 0.01


def test_a_close_up_has_mean_0_and_deviation_1():
    made = textures.detail(rng(), "gravel.png", (300, 700), 1.5)
    assert made.shape == (300, 700)
    assert abs(made.mean()) < 1e-3 and made.std() == pytest.approx(1, abs=0.01)


def test_photographs_are_shared_and_cannot_be_changed():
    image = textures.photo("chelsea.png")
    assert image.ndim == 3 and image is textures.photo("chelsea.png")
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 0


def test_a_missing_photograph_says_what_to_install():
    with pytest.raises(FileNotFoundError, match="install scikit-image"):
        textures.photo("nothing.png")
