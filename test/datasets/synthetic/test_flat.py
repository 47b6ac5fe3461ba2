"""The flat: four rooms in a ring, furnished inside their walls."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import apartment, flat
from vggt3_ros.datasets.synthetic.flat import BEDROOM, DOORS, KITCHEN, LIVING, STUDY


def test_doors_join_the_rooms_in_a_ring():
    scene = apartment.surfaces()
    for door in DOORS:
        middle = np.array([door.x, door.y, 1.4])
        aside = np.array([0.15, 0, 0]) if door in (DOORS[0], DOORS[2]) else np.array([0, 0.15, 0])
        assert scene.distance([middle])[0] > 0.3
        assert not scene.blocked((middle - aside)[None], (middle + aside)[None])[0]


RNG = lambda: np.random.default_rng(0)
ROOMS = {"living": LIVING, "kitchen": KITCHEN, "bedroom": BEDROOM, "study": STUDY}


@pytest.mark.parametrize("name", ROOMS)
def test_furniture_stands_in_its_room_under_the_ceiling(name):
    patches = getattr(flat, name)(RNG())
    points = np.concatenate([patch.points.reshape(-1, 3) for patch in patches])
    corners = np.array(ROOMS[name])
    # a door's trim and the feet of a piece may reach a little into a wall
    assert (points[:, :2] > corners.min(0) - 0.12).all()
    assert (points[:, :2] < corners.max(0) + 0.12).all()
    assert points[:, 2].min() > -0.01 and points[:, 2].max() < 2.5
    assert len(patches) > 200


def test_the_same_seed_furnishes_the_same_room():
    one, again = flat.study(RNG()), flat.study(RNG())
    other = flat.study(np.random.default_rng(1))
    assert all(np.array_equal(a.texture, b.texture) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a.texture, b.texture) for a, b in zip(one, other, strict=False))


@pytest.mark.parametrize("floor", [flat.floor_tiles, flat.bricks, flat.wallpaper])
def test_coverings_repeat_with_some_variation(floor):
    image = floor(RNG(), (120, 240))
    assert image.shape == (120, 240, 3) and image.dtype == np.uint8
    assert 3 < image.astype(float).mean(axis=-1).std() < 60


def test_planks_run_along_either_axis():
    for along in (0, 1):
        grey = flat.planks(RNG(), (320, 320), (172, 124, 80), along).astype(float).mean(-1)
        joints = np.abs(np.diff(grey, axis=1 - along)).mean()
        assert np.abs(np.diff(grey, axis=along)).mean() < joints
