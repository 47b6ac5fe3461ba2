"""Boxes clad in materials, and the resolution of their textures."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic.carpentry import (
    DENSITY,
    OAK,
    WHITE,
    clad,
    pixels,
    tilted,
    wooden,
)
from vggt3_ros.datasets.synthetic.patches import cushion


def test_textures_have_so_many_texels_a_metre_and_never_none():
    assert pixels(2.0, 1.0) == (DENSITY, 2 * DENSITY)
    assert pixels(0.001, 0.001) == (8, 8) and pixels(1.0, 1.0, 500) == (500, 500)


def test_every_face_has_a_texture_of_its_own_size():
    asked = []

    def material(size):
        asked.append(size)
        return np.zeros((*size, 3), np.uint8)

    faces = clad((0, 0, 0), (1.0, 0.5, 2.0), material, skip="")
    assert len(faces) == 6
    for patch in faces:
        width, height = patch.size
        assert patch.texture.shape[:2] == pixels(width, height)
    assert len(asked) == 6
    assert len(clad((0, 0, 0), (1.0, 0.5, 2.0), material, skip="nsewt")) == 1


def test_a_face_may_be_given():
    front = np.full((4, 4, 3), 7, np.uint8)
    made = clad((0, 0, 0), (1, 1, 1), lambda size: np.zeros((*size, 3), np.uint8), s=front)
    assert [patch.texture is front for patch in made].count(True) == 1
    south = next(patch for patch in made if patch.texture is front)
    np.testing.assert_allclose(south.points[..., 1], -0.5)


@pytest.mark.parametrize("color", [OAK, WHITE])
def test_wood_has_the_colour_of_its_kind(color):
    made = wooden(np.random.default_rng(0), (0, 0, 0), (0.8, 0.3, 0.5), color)
    mean = np.mean([patch.texture.reshape(-1, 3).mean(axis=0) for patch in made], axis=0)
    np.testing.assert_allclose(mean, color, rtol=0.15)
    assert len(made) == 5  # nothing under it


def test_a_tilted_cushion_leans_back():
    flat = cushion(0.4, 0.4, 0.1, np.zeros((8, 8, 3), np.uint8))
    (upright,) = tilted(flat, 90)
    np.testing.assert_allclose(upright.points[..., 2], flat.points[..., 1], atol=1e-12)
    np.testing.assert_allclose(upright.points[..., 1], -flat.points[..., 2], atol=1e-12)
