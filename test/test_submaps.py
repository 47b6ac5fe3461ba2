"""A map of several memories: kept, moved, distilled again only where needed, asked only where likely, on disk and back."""

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.geometry import se3
from vggt3_ros.mapping.fusion import empty_map
from vggt3_ros.mapping.snapshot import Snapshot
from vggt3_ros.memory.keeper import MemoryKeeper
from vggt3_ros.memory.submaps import Submaps
from vggt3_ros.memory.upkeep import LEAST_STEPS, Stale, shared_steps

TINY = {"device": "cpu", "memory.steps": 12, "memory.warm_steps": 6, "memory.submap_cells": 700, "memory.width": 64, "memory.blocks": 1,
        "memory.anchors": 16}
AWAY = se3.exp([3.0, 1.0, -0.5, 0.0, 0.1, 0.9])


class Source:
    """frames(id), as FrameSource has it; `asked` says for which."""

    def __init__(self, frames):
        self.frames, self.asked, self.renewed = frames, [], set()

    def __call__(self, keyframe_id):
        self.asked.append(keyframe_id)
        return self.frames[keyframe_id]


def keeper(folder, frames, **changes):
    config = BackendConfig.from_flat(TINY | {"memory." + name: value for name, value in changes.items()})
    return MemoryKeeper(folder, Source(frames), config, "cpu")


def snapshot_of(T_map_cam, generation=1):
    count = len(T_map_cam)
    return Snapshot(generation, np.arange(count), np.arange(count) + 1, np.array(T_map_cam), np.array(T_map_cam),
                    np.tile(np.eye(6), (count, 1, 1)), (), empty_map())


def kept(keeper, memory, T_map_cam):
    return keeper.kept(memory, list(range(len(T_map_cam))), np.array(T_map_cam), lambda part: None)


def stored(memory, folder, T_map_cam, generation=1):
    path = folder / f"{generation:06d}"
    snapshot_of(T_map_cam, generation).save(path, memory)
    return memory.moved_to(path)


def members(memory):
    return {submap.number: submap.keyframe_ids.tolist() for submap in memory}


@pytest.fixture(scope="module")
def first(frames, rendered, tmp_path_factory):
    """(folder, Submaps of the first 20 keyframes as a snapshot holds them)"""
    folder = tmp_path_factory.mktemp("submaps")
    memory = kept(keeper(folder, frames), None, rendered.T_world_cam[:20])
    return folder, stored(memory, folder, rendered.T_world_cam[:20])


def test_every_keyframe_has_one_submap_of_bounded_size(first):
    _, memory = first
    assert len(memory) >= 2 and sorted(i for ids in members(memory).values() for i in ids) == list(range(20))
    assert all(len(submap.cells) <= 700 and submap.path.exists() and submap.distilled == len(submap) for submap in memory)


def test_new_keyframes_join_or_found_and_old_ones_stay(first, frames, rendered, tmp_path):
    _, memory = first
    keeping = keeper(tmp_path, frames)
    grown = kept(keeping, memory, rendered.T_world_cam[:24])
    before, after = members(memory), members(grown)
    assert all(after[number][:len(ids)] == ids for number, ids in before.items())
    assert sorted(i for ids in after.values() for i in ids) == list(range(24))
    unchanged = [number for number, ids in before.items() if after[number] == ids]
    touched = {i for number, ids in after.items() if number not in unchanged for i in ids}
    assert unchanged and set(keeping._frames.asked) <= touched  # those of other submaps are not even read
    steps = {submap.number: submap.steps for submap in memory}
    assert all(submap.steps == steps[submap.number] for submap in grown if submap.number in unchanged)


def test_a_map_that_moves_as_a_whole_is_not_distilled_again(first, frames, rendered, tmp_path):
    _, memory = first
    keeping = keeper(tmp_path, frames)
    moved = kept(keeping, memory, AWAY @ rendered.T_world_cam[:20])
    assert keeping._frames.asked == [] and [s.steps for s in moved] == [s.steps for s in memory]
    for submap in moved:
        np.testing.assert_allclose(submap.T_map_submap, AWAY, atol=1e-9)


def test_a_submap_that_bends_is_distilled_again_and_the_others_not(first, frames, rendered, tmp_path):
    _, memory = first
    poses = rendered.T_world_cam[:20].copy()
    bent = list(memory)[0]
    for rank, i in enumerate(bent.keyframe_ids):
        poses[i] = se3.exp([0.01 * rank, 0, 0, 0, 0, 0]) @ poses[i]
    after = {submap.number: submap for submap in kept(keeper(tmp_path, frames), memory, poses)}
    assert after[bent.number].steps > bent.steps and after[bent.number].strain(dict(enumerate(poses))) == pytest.approx(0, abs=1e-9)
    assert all(after[submap.number].steps == submap.steps for submap in list(memory)[1:])


def test_depth_that_changed_has_its_submap_distilled_again(first, frames, rendered, tmp_path):
    _, memory = first
    keeping = keeper(tmp_path, frames)
    keeping._frames.renewed.add(int(list(memory)[1].keyframe_ids[0]))
    after = kept(keeping, memory, rendered.T_world_cam[:20])
    assert [new.steps > old.steps for new, old in zip(after, memory)] == [k == 1 for k in range(len(memory))]
    assert not keeping._frames.renewed


def test_a_snapshot_holds_them_and_unchanged_files_are_shared(first, frames, rendered, tmp_path):
    folder, memory = first
    snapshot = Snapshot.load(folder / "000001")
    loaded = keeper(folder, frames).load(folder / "000001", snapshot)
    for a, b in zip(loaded, memory, strict=True):
        for name in ("keyframe_ids", "T_submap_cam", "T_map_submap", "cells"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert (a.number, a.distilled, a.validation_error_m, a.steps) == (b.number, b.distilled, b.validation_error_m, b.steps)
    again = stored(loaded, folder, rendered.T_world_cam[:20], 2)
    assert all(a.path != b.path and a.path.samefile(b.path) for a, b in zip(again, memory))
    keys = np.random.default_rng(0).normal(size=(5, 192)).astype(np.float32)
    for a, b in zip(again, memory):
        np.testing.assert_array_equal(again.memory(a).predict(keys)[0], memory.memory(b).predict(keys)[0])


@pytest.mark.parametrize("damage", [lambda f: (f / "submaps" / "index.npz").write_bytes(b"PK nonsense"),
                                    lambda f: (f / "submaps" / "000001.safetensors").write_bytes(b"\0" * 900)])
def test_damaged_files_are_named(first, frames, rendered, tmp_path, damage):
    path = stored(first[1], tmp_path, rendered.T_world_cam[:20]) and tmp_path / "000001"
    for file in (path / "submaps").iterdir():  # break the links: the others keep theirs
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
    damage(path)
    with pytest.raises(ValueError, match="submaps"):
        keeper(tmp_path, frames).load(path, Snapshot.load(path))


def test_the_one_memory_of_an_older_version_becomes_a_submap(first, frames, rendered, tmp_path):
    poses = rendered.T_world_cam[:20]
    snapshot_of(poses).save(tmp_path / "000001")
    (tmp_path / "000001" / "memory.safetensors").write_bytes(list(first[1])[0].path.read_bytes())
    keeping = keeper(tmp_path, frames, submap_cells=5000)
    old = keeping.load(tmp_path / "000001", Snapshot.load(tmp_path / "000001"))
    assert members(old) == {1: list(range(20))}
    grown = kept(keeping, old, rendered.T_world_cam[:22])
    assert members(grown) == {1: list(range(22))} and list(grown)[0].steps > list(old)[0].steps


def test_queries_go_to_the_submaps_that_look_like_them(first, frames, rendered):
    _, memory = first
    places, snapshot = PlaceIndex.build([frame.features for frame in frames[:20]]), snapshot_of(rendered.T_world_cam[:20])
    for submap in memory:
        for i in submap.keyframe_ids:
            likely = memory.likely(2, frames[i].features, places, snapshot)
            assert submap in likely and len(likely) <= 2
    own = [memory.likely(1, frames[i].features, places, snapshot)[0] for i in range(20)]
    assert np.mean([i in submap.keyframe_ids for i, submap in enumerate(own)]) > 0.7
    for submap in memory:  # a hint counts more than looks
        hint = rendered.T_world_cam[submap.keyframe_ids[len(submap) // 2]]
        assert memory.likely(1, frames[0].features, places, snapshot, hint)[0] is submap


def test_only_the_last_used_memories_stay_loaded(first, frames):
    folder, memory = first
    small = keeper(folder, frames)
    one = small._cache(list(memory)[0].path)
    small._cache.limit = int(1.5 * one.nbytes)
    small._cache(list(memory)[1].path)
    assert len(small._cache._held) == 1 and small._cache(list(memory)[0].path) is not one


def test_idle_time_goes_to_the_submap_that_is_least_sure(first, frames, rendered, tmp_path):
    _, memory = first
    keeping, snapshot = keeper(tmp_path, frames), snapshot_of(rendered.T_world_cam[:20])
    better = keeping.bettered(memory, snapshot, lambda part: None, 1.5)
    worst = max(memory, key=lambda submap: submap.validation_error_m)
    changed = [new.number for new, old in zip(better, memory) if new.steps != old.steps]
    assert changed == [worst.number] and better.validation_error_m < memory.validation_error_m


def stale(number, made, first):
    new = replace(first, number=number, path=first.path if made else None)
    return Stale(new, 1, 0.0)


def test_steps_are_shared_and_bounded(first):
    config = BackendConfig.from_flat({"memory.steps": 1000, "memory.warm_steps": 200, "memory.refinement_steps": 2000, "memory.steps_per_keyframe": 1000}).memory
    submap = list(first[1])[0]
    assert shared_steps([stale(1, False, submap)], config) == [1000]
    assert shared_steps([stale(1, True, submap)], config) == [200]
    assert shared_steps([stale(k, False, submap) for k in range(4)], config) == [500] * 4
    many = shared_steps([stale(k, True, submap) for k in range(100)], config)
    assert sum(many) == 2000 and many[:20] == [LEAST_STEPS] * 20 and not any(many[20:])
    assert shared_steps([], config) == []


def test_a_first_map_of_few_keyframes_does_not_wait_for_all_steps(first):
    config = BackendConfig.from_flat({"memory.steps": 1000, "memory.steps_per_keyframe": 30, "memory.refinement_steps": 2000}).memory
    submap = list(first[1])[0]
    few, many = (replace(submap, keyframe_ids=np.arange(count)) for count in (10, 50))
    assert shared_steps([stale(1, False, few)], config) == [300] and shared_steps([stale(1, False, many)], config) == [1000]
    one = replace(submap, keyframe_ids=np.arange(1))
    assert shared_steps([stale(1, False, one)], config) == [LEAST_STEPS]
