"""(key, point) pairs: the points are where the depth at the given poses says, and no keyframe is forgotten."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.config import MemoryConfig
from vggt3_ros.datasets import apartment
from vggt3_ros.memory.keys import KEY_SIZE
from vggt3_ros.memory.pairs import collect_pairs


@pytest.fixture(scope="module")
def some(frames, rendered):
    return frames[:6], rendered.T_world_cam[:6]


def test_points_lie_on_the_surfaces_of_the_scene(some):
    keys, points, importance = collect_pairs(iter(some[0]), some[1], 6, MemoryConfig())
    assert len(keys) == len(points) == len(importance) > 5000
    assert keys.shape[1] == KEY_SIZE and np.isfinite(keys).all() and (importance > 0).all()
    off = apartment.surfaces().distance(points)
    assert np.median(off) < 0.01 and np.quantile(off, 0.95) < 0.05


def test_a_limit_on_pairs_takes_the_same_share_of_every_keyframe(some):
    frames, poses = some
    config = MemoryConfig(max_pairs=10_000)
    together = collect_pairs(iter(frames), poses, 6, config)[1]
    assert len(together) <= 10_000
    alone = [len(collect_pairs(iter(frames[k:k + 1]), poses[k:k + 1], 6, config)[1]) for k in range(6)]
    assert sum(alone) == len(together) and max(alone) <= 10_000 // 6 and min(alone) > 1000


def test_far_points_are_left_out(some):
    frames, poses = some
    _, points, _ = collect_pairs(iter(frames[:1]), poses[:1], 1, MemoryConfig(max_depth=2.0))
    along = (points - poses[0, :3, 3]) @ poses[0, :3, 2]
    assert along.max() <= 2.001 and len(points) > 64


def test_without_depth_there_are_no_pairs(some):
    blind = [replace(frame, cell_depth=np.zeros_like(frame.cell_depth)) for frame in some[0]]
    assert collect_pairs(iter(blind), some[1], 6, MemoryConfig()) is None
    mixed = collect_pairs(iter(blind[:1] + some[0][1:2]), some[1][:2], 2, MemoryConfig())
    only = collect_pairs(iter(some[0][1:2]), some[1][1:2], 1, MemoryConfig())
    assert len(mixed[1]) == len(only[1])


def test_the_pairs_of_many_keyframes_are_never_held_twice(some):
    frames, poses = list(some[0]) * 20, np.concatenate([some[1]] * 20)
    tracemalloc.start()
    try:
        pairs = collect_pairs(iter(frames), poses, len(frames), MemoryConfig(max_pairs=1000 * len(frames)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    held = sum(part.nbytes for part in pairs)
    assert held > 30e6 and peak < 1.6 * held
