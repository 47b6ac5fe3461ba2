"""Printed and woven things: of the size that is asked for, varied, and recognisable."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import prints, textures

MAKERS = {
    "rug": prints.rug,
    "picture": prints.picture,
    "paper": prints.paper,
    "spine": prints.spine,
    "label": prints.label,
}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("size", [(120, 90), (60, 200), (24, 20)])
def test_an_image_of_the_size_that_is_asked_for(maker, size):
    image = maker(rng(), size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8 and image.std() > 3
    assert np.array_equal(image, maker(rng(), size))


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_no_two_look_alike(maker):
    images = [maker(rng(seed), (80, 60)).astype(int) for seed in range(6)]
    assert all(np.abs(a - b).mean() > 5 for i, a in enumerate(images) for b in images[:i])


@pytest.mark.parametrize("size", [(160, 240), (161, 241)])
def test_a_rug_is_mirrored_in_four(size):
    rug = prints.rug(rng(), size, "coffee.png").astype(float)
    photograph = textures.crop(rng(), textures.photo("coffee.png"), size).astype(float)

    def symmetry(image):
        middle = image[20:-20, 20:-20].mean(axis=-1)  # without its border
        return [
            np.corrcoef(middle.ravel(), mirrored.ravel())[0, 1]
            for mirrored in (middle[::-1], middle[:, ::-1])
        ]

    assert min(symmetry(rug)) > 0.7 and max(symmetry(photograph)) < 0.6


def test_a_picture_has_a_frame_around_the_photograph():
    image = prints.picture(rng(3), (200, 260), "coffee.png", frame=(40, 30, 20)).astype(int)
    edge = np.concatenate([image[:4].reshape(-1, 3), image[:, :4].reshape(-1, 3)])
    assert edge.mean() < 50 < image[60:140, 60:200].mean()


def test_toned_photographs_stay_recognisable():
    photo = textures.photo("astronaut.png")[:300, :300]
    toned = prints.toned(rng(), photo)
    grey = [image.astype(float).mean(axis=-1).ravel() for image in (photo, toned)]
    assert np.corrcoef(*grey)[0, 1] > 0.95 and not np.array_equal(photo, toned)


def test_text_is_written_in_the_colour_that_is_asked_for():
    image = np.full((60, 300, 3), 250, np.uint8)
    prints.text(rng(), image, (10, 45), 30, (10, 20, 200))
    ink = image[(image < 100).any(axis=-1)]
    assert 200 < len(ink) < 9000
    np.testing.assert_allclose(np.median(ink, axis=0), (10, 20, 200), atol=5)


@pytest.mark.parametrize("panels", [(1, 1), (2, 3)])
def test_panels_divide_a_front(panels):
    image = np.full((240, 360, 3), 180, np.uint8)
    assert prints.panelled(rng(), image, panels, handle=False) is image
    rows, columns = panels
    dark = image.mean(axis=-1) < 80  # the joints between the panels
    middle = 240 // rows // 2
    joints = np.flatnonzero(dark[middle])
    assert len(np.unique(np.round(joints / (360 / columns)))) == columns + 1


def test_handles_are_drawn_unless_they_are_not_wanted():
    fronts = [
        prints.panelled(rng(), np.full((240, 360, 3), 180, np.uint8), (1, 1), handle=handle)
        for handle in (True, False)
    ]
    assert not np.array_equal(*fronts)
