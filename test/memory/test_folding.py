"""Keyframes folded into slots: what is seen again is one slot, what is new founds one, and nothing
else moves.
"""

import numpy as np
import pytest
from folded_memory import MANY, folded
from scipy.spatial import cKDTree

from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.memory.folding import EDGE_M, Folding, densest, empty, mutual
from vggt3_ros.memory.pairs import pairs_of


@pytest.fixture(scope="module")
def memory(frames, rendered):
    return folded(frames, rendered.T_world_cam)


def test_slots_lie_on_surfaces_and_better_the_more_often_they_were_seen(memory):
    off = apartment.surfaces().distance(memory.map_points)
    assert np.median(off) < 0.008 and np.quantile(off, 0.95) < 0.05
    often, once = memory.observed >= 4, memory.observed == 1
    assert often.sum() > 300 and np.median(off[often]) < np.median(off[once])
    np.testing.assert_allclose(np.linalg.norm(memory.keys.float(), axis=1), 1, atol=2e-3)


def test_a_point_seen_again_founds_no_slot(frames, rendered, memory):
    shown = sum(len(pairs_of(frame, 6.0)) for frame in frames)
    assert len(memory) < 0.75 * shown
    again = folded(
        [frames[5]],
        [rendered.T_world_cam[5]],
        folded([frames[5]], [rendered.T_world_cam[5]]).renumbered({frames[5].id: 99}),
    )
    once = folded([frames[5]], [rendered.T_world_cam[5]])
    assert len(again) < 1.02 * len(once) and np.median(again.observed) == 2
    np.testing.assert_allclose(again.map_points[: len(once)], once.map_points, atol=0.02)


def test_step_by_step_is_all_at_once(frames, rendered, memory):
    half = folded(frames[:14], rendered.T_world_cam[:14])
    before = half.map_points.copy(), half.keys.clone(), half.observed.copy()
    grown = folded(frames[14:], rendered.T_world_cam[14:], half)
    assert abs(len(grown) - len(memory)) < 0.01 * len(memory)
    assert cKDTree(grown.map_points).query(memory.map_points)[0].mean() < 0.002
    # a memory that is served is never changed
    for was, now in zip(before, (half.map_points, half.keys, half.observed)):
        np.testing.assert_array_equal(was, now)


def test_the_same_look_in_another_place_is_another_slot(frames, rendered):
    once = folded([frames[5]], [rendered.T_world_cam[5]])
    away = rendered.T_world_cam[5].copy()
    away[:3, 3] += 0.5
    assert (
        len(folded([frames[6]], [away], once))
        > 1.7 * len(once) * len(pairs_of(frames[6], 6.0)) / len(pairs_of(frames[5], 6.0)) / 1.2
    )


def test_a_keyframe_held_out_leaves_no_trace(frames, rendered):
    folding = Folding(folded(frames[:8], rendered.T_world_cam[:8]), 6.0)
    before = folding.memory(MANY, MANY)
    folding.add(
        frames[4].__class__(**{**frames[4].__dict__, "id": 77}),
        rendered.T_world_cam[4],
        may_hold_out=True,
    )
    after = folding.memory(MANY, MANY)
    assert after.held_out.tolist() == [False] * 8 + [True] and after.keyframe_ids[-1] == 77
    np.testing.assert_array_equal(after.map_points, before.map_points)
    np.testing.assert_array_equal(after.keys, before.keys)


def test_what_nothing_else_shows_is_not_held_out(frames, rendered):
    folding = Folding(empty("cpu"), 6.0)
    folding.add(frames[4], rendered.T_world_cam[4], may_hold_out=True)
    assert not folding.memory(MANY, MANY).held_out.any() and len(folding.memory(MANY, MANY))


def test_size_is_bounded_by_surface_and_in_all_and_the_most_seen_stay(frames, rendered, memory):
    thin = folded(frames, rendered.T_world_cam, density=20)
    cells = np.unique(np.floor(thin.map_points / EDGE_M), axis=0, return_counts=True)[1]
    assert (
        cells.max() <= 20
        and len(thin) < 0.8 * len(memory)
        and thin.observed.mean() > memory.observed.mean()
    )
    few = folded(frames, rendered.T_world_cam, most=500)
    assert len(few) == 500 and few.observed.min() >= np.sort(memory.observed)[-500]


def test_densest_keeps_every_cell_something():
    points = np.random.default_rng(0).uniform(0, 1, (4000, 3))
    kept = densest(
        points, np.random.default_rng(1).integers(1, 9, 4000).astype(np.float32), 10**6, 3
    )
    cells, counts = np.unique(np.floor(points[kept] / EDGE_M), axis=0, return_counts=True)
    assert len(cells) == 64 and counts.max() == 3


def test_mutual_best_pairs_are_each_others_best():
    rng = np.random.default_rng(0)
    first, second, score = rng.integers(0, 30, 500), rng.integers(0, 30, 500), rng.random(500)
    table = np.full((30, 30), -1.0)
    np.maximum.at(table, (first, second), score)
    expected = {
        (i, int(table[i].argmax()))
        for i in range(30)
        if table[i].max() > 0 and table[:, table[i].argmax()].argmax() == i
    }
    assert set(zip(*map(np.ndarray.tolist, mutual(first, second, score)))) == expected
    assert [len(part) for part in mutual(first[:0], second[:0], score[:0])] == [0, 0]
