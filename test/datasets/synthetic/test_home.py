"""Rendered homes: rooms that differ, joined by doors, and a walk that touches nothing."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import home
from vggt3_ros.datasets.synthetic import home_tours as homes
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.datasets.synthetic.walk import walk


@pytest.fixture(scope="module")
def scene():
    """Five rooms: one more than a row has."""
    return Scene(home.home(5)[0])


def test_rooms_follow_each_other_like_a_snake_through_doors_of_their_own():
    cells = [home.cell(room) for room in range(9)]
    assert cells == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (2, 1), (1, 1), (0, 1), (0, 2)]
    for room in range(8):
        middles = [
            np.add(home.corner(k), (home.WIDTH / 2, home.DEPTH / 2)) for k in (room, room + 1)
        ]
        np.testing.assert_allclose(np.mean(middles, axis=0), home.doorway(room), atol=1e-9)


def test_the_walk_visits_every_room_and_touches_nothing(scene):
    _, path = walk(home.tour(5, rounds=2))
    rooms = homes.room_of(path)
    assert (
        np.bincount(rooms, minlength=5).min() > 100
        and len(np.bincount(rooms)) == 5
        and (np.diff(rooms) >= -1).all()
    )
    assert scene.distance(path[:, :3, 3]).min() > 0.25
    passed = np.flatnonzero(np.diff(rooms))
    # through the doors
    assert not scene.blocked(path[passed - 8, :3, 3], path[passed + 8, :3, 3]).any()


def test_rooms_differ_and_the_same_seed_makes_the_same_home():
    first, again = home.home(2)[0], home.home(2)[0]
    assert len(first) == len(again) and all(
        np.array_equal(a.texture, b.texture) for a, b in zip(first[::7], again[::7])
    )
    # not slats and bars, which are black everywhere
    large = [patch for patch in first if patch.texture.size > 30_000]
    textures = [
        {
            patch.texture.tobytes()
            for patch in large
            if (patch.points[..., 0].mean() > home.WIDTH + 0.06) == east
        }
        for east in (False, True)
    ]
    assert min(map(len, textures)) > 40 and not textures[0] & textures[1]
