"""Selection of the cameras with the most overlap."""

from round_trips import poses, round_trip

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.overlap import near_pose


def test_the_same_view_comes_first_and_excluded_ones_are_omitted():
    T = round_trip(rounds=1)[:-1]
    for k in (0, 7, 20):
        asked = T[k] @ se3.exp([0.05, 0, 0, 0, 0.05, 0])
        assert near_pose(T, asked, 3, ())[0] == k
        assert k not in near_pose(T, asked, 3, {k})
    assert len(near_pose(T, T[0], 100, ())) == len(T)


def test_near_pose_prefers_a_view_of_the_same_side_over_a_nearer_one_turned_away():
    T = poses([[0, 0, 0], [0.5, 0, 0]], [180, 0])
    assert near_pose(T, poses([[0.1, 0, 0]], [0])[0], 2, ()) == [1, 0]
