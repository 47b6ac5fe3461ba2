import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import twins
from vggt3_ros.datasets.synthetic.apartment import TOUR
from vggt3_ros.datasets.synthetic.patches import quad
from vggt3_ros.datasets.synthetic.scene import Scene
from vggt3_ros.datasets.synthetic.walk import look, off_the_path, pick_keyframes, walk
from vggt3_ros.geometry import se3


def steps(poses):
    motion = se3.inverse(poses[:-1]) @ poses[1:]
    return np.linalg.norm(motion[:, :3, 3], axis=-1), np.degrees(se3.rotation_angle(motion))


def test_look_has_optical_axes():
    level, up = look(1, 2, 3, 90), look(0, 0, 0, 0, 30)
    assert (
        np.allclose(level[:3, 3], (1, 2, 3))
        and np.allclose(level[:3, 2], (0, 1, 0))
        and np.allclose(level[:3, 0], (1, 0, 0))
    )
    assert np.allclose(level[:3, 1], (0, 0, -1))
    assert np.allclose(up[:3, 2], (np.cos(np.radians(30)), 0, 0.5))
    assert look(np.zeros(4), 0, 0, 0).shape == (4, 4, 4)


@pytest.mark.parametrize("tour", [TOUR, twins.tour(True)])
def test_a_walk_is_smooth_and_upright(tour):
    stamps, poses = walk(tour)
    assert np.all(np.diff(stamps) > 0) and abs(np.diff(stamps).mean() - 1e9 / 30) < 1e3
    moved, turned = steps(poses)
    assert moved.max() * 30 < 1.2 and turned.max() * 30 < 90  # metres and degrees a second
    assert np.abs(np.diff(moved)).max() * 30 < 0.2
    assert (poses[:, 2, 1] < -0.9).all() and np.abs(poses[:, 2, 3] - 1.42).max() < 0.12


def test_the_tour_closes_its_loop():
    _, poses = walk(TOUR)
    assert np.linalg.norm(poses[0, :2, 3] - poses[-1, :2, 3]) < 0.25
    assert np.degrees(se3.rotation_angle(se3.inverse(poses[0]) @ poses[-1])) < 15


def test_keyframes_are_as_far_apart_as_front_ends_take_them():
    _, poses = walk(TOUR)
    picked = pick_keyframes(poses, 0.3, 13.5)
    assert picked[0] == 0 and 110 <= len(picked) <= 135
    moved, turned = steps(poses[picked])
    assert np.all((moved > 0.3) | (turned > 13.5)) and moved.max() < 0.35 and turned.max() < 17


def test_poses_off_the_path_keep_their_distance():
    _, poses = walk(TOUR)
    path = poses[pick_keyframes(poses)]
    walls = [quad((-9, 9, 3), (20, 0, 0), (0, 0, -3), np.zeros((8, 8, 3), np.uint8))]
    asked = off_the_path(path, 30, Scene(walls))
    again, other = (
        off_the_path(path, 30, Scene(walls)),
        off_the_path(path, 30, Scene(walls), seed=1),
    )
    assert (
        asked.shape == (30, 4, 4)
        and np.array_equal(asked, again)
        and not np.allclose(asked, other)
    )
    gaps = np.linalg.norm(asked[:, None, :3, 3] - path[None, :, :3, 3], axis=-1)
    angles = np.degrees(se3.rotation_angle(se3.inverse(path)[None] @ asked[:, None]))
    assert np.all(((gaps <= 0.4) & (angles <= 20)).any(axis=1))  # near some keyframe
    assert not np.any((gaps < 0.1) & (angles < 5))  # but a repetition of none


def test_a_path_without_room_is_refused():
    _, poses = walk(TOUR[:4])
    path = poses[pick_keyframes(poses)]
    beside = [
        quad((x, 9, 3), (0, -9, 0), (0, 0, -3), np.zeros((8, 8, 3), np.uint8))
        for x in np.arange(0, 5, 0.3)
    ]
    with pytest.raises(ValueError, match="too narrow"):
        off_the_path(path, 3, Scene(beside))
