"""Tours through rendered homes."""

import numpy as np
import pytest

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.synthetic import home
from vggt3_ros.datasets.synthetic import home_tours as homes
from vggt3_ros.datasets.synthetic.apartment import write_once
from vggt3_ros.geometry.camera import Camera


def test_homes_without_rooms_are_refused():
    with pytest.raises(ValueError, match="1 to 64 rooms"):
        homes.sequence(0)


@pytest.mark.parametrize("rooms, rounds", [(65, 1), (1, 0), (1, 21), (-1, 1)])
def test_sizes_out_of_range_are_refused(rooms, rounds):
    with pytest.raises(ValueError, match="1 to 64 rooms and 1 to 20 rounds"):
        homes.sequence(rooms, rounds)


def test_every_place_knows_its_room():
    rooms = np.arange(9)
    poses = np.tile(np.eye(4), (9, 1, 1))
    for room in rooms:
        poses[room, :2, 3] = np.add(home.corner(room), (0.3, home.DEPTH - 0.3))
    assert homes.room_of(poses).tolist() == rooms.tolist()


def test_a_tour_is_written_once(tmp_path):
    """Rendered again for other options only."""
    made = []

    def sequence(rooms, seed=0):
        made.append((rooms, seed))
        return tiny_sequence()

    for options in ({"rooms": 1}, {"rooms": 1}, {"rooms": 2}, {"rooms": 2, "seed": 1}):
        folder = write_once(
            tmp_path / "home", homes.STAMP, homes.VERSION, sequence, quiet, options
        )
        assert (folder / "rgb.txt").exists()
    assert made == [(1, 0), (2, 0), (2, 1)]
    write_once(tmp_path / "home", homes.STAMP, homes.VERSION + 1, sequence, quiet, options)
    assert len(made) == 4  # another version of the renderer


def quiet(steps, **_):
    return steps


def tiny_sequence():
    camera, stamps = Camera(8, 6, 8.0, 8.0, 3.5, 2.5), np.array([1, 2]) * 10**9
    poses = np.tile(np.eye(4), (2, 1, 1))
    frames = KeyframeList(camera, stamps, poses, lambda i: np.zeros((6, 8, 3), np.uint8))
    return Sequence("tiny", camera, stamps, frames, poses)
