"""Twin rooms: equal to the eye, and not to the truth."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import apartment, twins
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(160, 120, 131.25, 131.25, 79.5, 59.5)  # the default view at a quarter of its size


def test_a_seed_decides_on_every_texture():
    first, again, other = (twins.twins(seed)[0] for seed in (0, 0, 1))
    assert len(first) == len(again)
    assert all(
        np.array_equal(a.texture, b.texture) and np.array_equal(a.points, b.points)
        for a, b in zip(first, again)
    )
    assert any(
        a.texture.shape != b.texture.shape or not np.array_equal(a.texture, b.texture)
        for a, b in zip(first, other)
    )


def test_twin_rooms_look_the_same_and_are_not():
    sequence = apartment.twin_rooms(come_back=True, camera=CAMERA, ate=0.2)
    x, y = sequence.groundtruth[:, 0, 3], sequence.groundtruth[:, 1, 3]
    assert x[0] < 3.6 and x.max() > twins.APART and x[-1] < 3.6  # there and back
    renderer = apartment._renderer(twins.twins, 0, 0)
    pose = sequence.groundtruth[np.flatnonzero(y < 1.9)[0]]
    twin = pose.copy()
    twin[0, 3] += twins.APART
    first, second, turned = (
        renderer.render(CAMERA, p).color
        for p in (pose, twin, twin @ se3.exp([0, 0, 0, 0, 0.2, 0]))
    )
    assert np.abs(first - second).mean() < 2 and np.abs(first - turned).mean() > 10
    away, _ = (
        apartment.twin_rooms(come_back=come_back, camera=CAMERA).groundtruth[-1, 0, 3]
        for come_back in (False, True)
    )
    assert away > twins.APART
    with pytest.raises(ValueError, match="keyframes, 500 were requested"):
        apartment.twin_rooms(keyframes=500)


def test_everything_in_the_first_room_has_its_twin_a_fixed_way_along_x():
    patches, lamps = twins.twins(0)
    room = [p for p in patches if p.points[..., 0].max() < 4.0 and p.points[..., 1].max() < 3.3]
    places = {p.points.round(6).tobytes() for p in patches}
    moved = [(p.points + (twins.APART, 0, 0)).round(6).tobytes() for p in room]
    assert len(room) > 300 and all(place in places for place in moved)
    corners = np.array([lamp.corner for lamp in lamps])
    assert (
        sum(np.isclose(corners, corner + (twins.APART, 0, 0)).all(1).any() for corner in corners)
        >= 2
    )
