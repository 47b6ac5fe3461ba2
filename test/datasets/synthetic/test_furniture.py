"""Furniture: on the floor, its back to the wall, of the size that was asked for."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import furniture
from vggt3_ros.datasets.synthetic.scene import Scene

# width, depth, height that a piece may take
PIECES = {
    "table": (lambda rng: furniture.table(rng, 1.2, 0.7, 0.75), (1.2, 0.7, 0.75)),
    "chair": (furniture.chair, (0.46, 0.46, 0.93)),
    "sofa": (furniture.sofa, (2.0, 0.95, 0.9)),
    "armchair": (lambda rng: furniture.sofa(rng, 0.9), (0.95, 0.95, 0.9)),
    "cabinet": (lambda rng: furniture.cabinet(rng, 1.0, 0.8, 0.4, (2, 3)), (1.0, 0.4, 0.8)),
    "shelf": (lambda rng: furniture.shelf(rng, 1.0, 1.9), (1.0, 0.28, 1.9)),
    "bed": (furniture.bed, (1.7, 2.05, 1.0)),
    "desk": (furniture.desk, (1.5, 0.75, 1.3)),
    "counter": (
        lambda rng: furniture.counter(rng, 2.4, (110, 130, 140), stove=0.5),
        (2.4, 0.62, 1.1),
    ),
    "fridge": (furniture.fridge, (0.62, 0.62, 1.75)),
}


def made(name, seed=0):
    return PIECES[name][0](np.random.default_rng(seed))


@pytest.mark.parametrize("name", PIECES)
def test_a_piece_stands_on_the_floor_with_its_back_to_the_wall(name):
    points = np.concatenate([patch.points.reshape(-1, 3) for patch in made(name)])
    width, depth, height = PIECES[name][1]
    low, high = points.min(axis=0), points.max(axis=0)
    assert -0.001 <= low[2] < 0.09 and high[2] <= height + 0.02
    assert -0.03 < high[1] < 0.03 and low[1] >= -depth - 0.05
    assert -width / 2 - 0.05 <= low[0] and high[0] <= width / 2 + 0.05
    assert high[2] > 0.8 * height - 0.2 and high[0] - low[0] > 0.8 * width


@pytest.mark.parametrize("name", PIECES)
def test_a_state_repeats_its_piece_and_another_varies_it(name):
    one, again, other = made(name), made(name), made(name, seed=1)
    assert all(np.array_equal(a.texture, b.texture) for a, b in zip(one, again, strict=True))
    textures = {patch.texture.tobytes() for patch in one if patch.texture.size > 3000}
    assert not all(p.texture.tobytes() in textures for p in other if p.texture.size > 3000)


def test_a_table_has_a_top_and_room_for_legs_under_it():
    scene = Scene(made("table"))
    down = scene.cast(np.array([[0, -0.35, 2.0]]), np.array([[0, 0, -1.0]]))
    assert down.distance[0] == pytest.approx(1.25, abs=1e-3)
    under = np.array([[0, -0.35, 0.3]])
    assert scene.distance(under)[0] > 0.25


def test_a_shelf_that_is_filled_shows_more_than_boards():
    empty, full = (
        furniture.shelf(np.random.default_rng(0), 1.0, 1.9, fill=fill, rows=5)
        for fill in (0.0, 1.0)
    )
    assert len(full) > len(empty) + 50


def test_doors_of_a_cabinet_are_drawn_on_its_front():
    rng = np.random.default_rng
    one, six = (
        furniture.cabinet(rng(0), 1.0, 0.8, 0.4, panels, paint=True) for panels in ((1, 1), (2, 3))
    )
    front = [
        next(p for p in made if np.allclose(p.points[..., 1], -0.4)).texture for made in (one, six)
    ]
    edges = [np.abs(np.diff(image.astype(int).mean(-1), axis=1)).mean() for image in front]
    assert edges[1] > 1.3 * edges[0]
