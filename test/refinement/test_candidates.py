"""Which pairs are tried."""

import numpy as np
from round_trips import poses, round_trip

from vggt3_ros.config import LoopConfig
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.refinement import candidates


def test_each_keyframe_is_paired_with_those_just_before_it():
    assert candidates.sequence(4, 2) == [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2)]
    assert candidates.sequence(1) == candidates.sequence(0) == []


def test_proximity_pairs_are_near_look_alike_and_are_few():
    T, config = (
        round_trip(),
        LoopConfig(pairs_per_keyframe=3, proximity_radius=1.0, proximity_angle=0.8),
    )
    pairs = candidates.proximity(T, config, set())
    assert len(pairs) == len(set(pairs)) and any(i - j > 10 for i, j in pairs)
    for i, j in pairs:
        assert i > j
        assert np.linalg.norm(T[i, :3, 3] - T[j, :3, 3]) < 1.0
        assert np.arccos(np.clip(T[i, :3, 2] @ T[j, :3, 2], -1, 1)) < 0.8
    assert max(sum(i == k for i, _ in pairs) for k in range(len(T))) <= 3


def test_the_second_round_is_tied_to_the_first():
    T = round_trip()
    tied = {i for i, j in candidates.proximity(T, LoopConfig(), set()) if i - j > 10}
    assert set(range(25, 40)) <= tied


def test_a_keyframe_that_looks_the_other_way_is_no_candidate():
    positions = np.column_stack([np.linspace(0, 0.1, 8), np.zeros(8), np.zeros(8)])
    there_and_back = poses(positions, [0, 0, 0, 0, 180, 180, 180, 180])
    assert not [
        (i, j) for i, j in candidates.proximity(there_and_back, LoopConfig(), set()) if i >= 4 > j
    ]


def test_known_pairs_are_not_proposed_again_and_only_new_keyframes_are_asked_about():
    T, config = round_trip(), LoopConfig()
    pairs = candidates.proximity(T, config, set())
    assert candidates.proximity(T, config, set(pairs)) == []
    newer = candidates.proximity(T, config, set(), range(30, 40))
    assert newer and newer == [pair for pair in pairs if pair[0] >= 30]


def test_keyframes_merged_in_before_the_others_find_those_that_come_after_them():
    T, config = round_trip(), LoopConfig()
    pairs = candidates.proximity(T, config, set())
    asked = candidates.proximity(T, config, set(), range(5))
    assert set(asked) <= set(pairs) and {pair for pair in pairs if pair[1] < 5} <= set(asked)
    assert any(i >= 20 for i, _ in asked)


def test_what_bridges_a_step_lies_on_both_sides_of_it_the_nearest_first():
    pairs = candidates.across(5, 20, 3)
    assert pairs[0] == (5, 4) and set(pairs) == {(5, 4), (5, 3), (5, 2), (6, 4), (6, 3), (7, 4)}
    assert candidates.across(1, 2, 4) == [(1, 0)]


def test_pairs_across_a_step_are_those_that_look_alike_and_are_spread():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for i, j in ((30, 5), (31, 5), (25, 12), (38, 3)):
        vectors[i] = vectors[j] + 0.05 * rng.standard_normal(64)
    places = PlaceIndex(np.zeros((1, 64), np.float32), vectors, 40)
    chosen = candidates.alike_across(20, places, 3, {(38, 3)})
    assert (
        {(25, 12)} < set(chosen)
        and len({(30, 5), (31, 5)} & set(chosen)) == 1
        and (38, 3) not in chosen
    )
    assert all(j < 20 <= i and i - j > 2 for i, j in chosen)


def test_where_odometry_is_doubted_every_stretch_gets_its_share():
    """A camera sways over one place: what odometry calls nearest lies on one side of the path."""
    count, config = 60, LoopConfig(pairs_per_keyframe=4)
    positions = np.column_stack(
        [
            0.1 * np.sin(np.arange(count)),
            np.zeros(count),
            np.where(np.arange(count) < 30, 0.0, 0.6),
        ]
    )
    T = poses(positions, np.zeros(count))
    across = lambda spread: sum(
        i >= 30 > j for i, j in candidates.proximity(T, config, set(), spread=spread)
    )
    assert across(True) > 1.5 * across(False)
    assert len(candidates.proximity(T, config, set(), spread=True)) <= 4 * count
