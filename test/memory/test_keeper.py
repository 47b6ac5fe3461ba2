"""The memory through a map's refinements: only what changed is read again, keyframes held out stay
so, older maps get a memory.
"""

import logging

import numpy as np
import pytest

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.geometry import se3
from vggt3_ros.memory import keeper as keeping
from vggt3_ros.memory.keeper import MemoryKeeper, strained, without
from vggt3_ros.store.snapshot import MEMORY_FILE
from vggt3_ros.system.stages import Cancelled

CONFIG = BackendConfig.from_flat({"device": "cpu"})


class Frames:
    """What FrameSource is to the keeper, and what it was asked for."""

    def __init__(self, frames):
        self._frames, self.renewed, self.asked = frames, set(), []

    def __call__(self, keyframe_id):
        self.asked.append(keyframe_id)
        return self._frames[keyframe_id]


@pytest.fixture
def source(frames):
    return Frames(frames)


def kept(source, memory, count, T_map_cam, config=CONFIG, step=lambda fraction: None):
    return MemoryKeeper(source, config, "cpu").update(
        memory, list(range(count)), T_map_cam[:count], step
    )


@pytest.fixture
def never_held_out(monkeypatch):
    monkeypatch.setattr(keeping, "EVERY", 1 << 20)


def test_only_new_keyframes_are_read_however_the_map_moves(source, rendered, never_held_out):
    first = kept(source, None, 20, rendered.T_world_cam)
    assert source.asked == list(range(20))
    source.asked.clear()
    moved = se3.exp([3, -1, 2, 0.4, 0.2, -0.9]) @ rendered.T_world_cam
    second = kept(source, first, 24, moved)
    assert source.asked == [20, 21, 22, 23] and second.keyframe_ids.tolist() == list(range(24))
    again = kept(source, second, 24, rendered.T_world_cam)
    at_once = kept(Frames(source._frames), None, 24, rendered.T_world_cam)
    assert len(again) == pytest.approx(len(at_once), rel=0.01)
    assert (
        np.median(
            np.linalg.norm(
                np.sort(again.map_points, 0) - np.sort(at_once.map_points, 0)[: len(again)], axis=1
            )
        )
        < 0.05
    )


def test_a_keyframe_that_moved_against_its_neighbours_is_folded_anew_and_no_other(
    source, rendered, never_held_out
):
    first = kept(source, None, 20, rendered.T_world_cam)
    bent = rendered.T_world_cam.copy()
    bent[9] = bent[9] @ se3.exp([0.06, 0, 0, 0, 0, 0])
    assert strained(first.placed(dict(enumerate(bent)))) == [9]
    source.asked.clear()
    kept(source, first, 20, bent)
    assert source.asked == [9]


def test_bending_that_creeps_adds_up(source, rendered, never_held_out):
    memory, bent, read = (
        kept(source, None, 20, rendered.T_world_cam),
        rendered.T_world_cam.copy(),
        [],
    )
    for _ in range(12):
        bent[9] = bent[9] @ se3.exp([0.005, 0, 0, 0, 0, 0])
        source.asked.clear()
        memory = kept(source, memory, 20, bent)
        read += source.asked
    assert set(read) == {9} and 2 <= len(read) <= 4


def test_depth_that_changed_and_keyframes_that_went_are_forgotten(
    source, rendered, never_held_out
):
    first = kept(source, None, 20, rendered.T_world_cam)
    source.asked.clear()
    source.renewed.add(4)
    second = kept(source, first, 20, rendered.T_world_cam)
    assert (
        source.asked == [4]
        and not source.renewed
        and len(second) == pytest.approx(len(first), rel=0.02)
    )
    fewer = kept(source, second, 12, rendered.T_world_cam)
    assert sorted(fewer.keyframe_ids.tolist()) == list(range(12)) and len(fewer) < 0.8 * len(
        second
    )


def test_without_leaves_the_others_slots_where_they_are(source, rendered, never_held_out):
    memory = kept(source, None, 10, rendered.T_world_cam)
    left = without(memory, {0, 5})
    np.testing.assert_allclose(
        left.map_points, memory.map_points[~np.isin(memory.anchors, (0, 5))]
    )
    assert left.keyframe_ids.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]


def test_keyframes_held_out_stay_so_and_nothing_is_learned_from_them(
    source, rendered, monkeypatch
):
    monkeypatch.setattr(keeping, "EVERY", 4)
    memory, before = None, set()
    for count in (10, 16, 22, 28):
        memory = kept(source, memory, count, rendered.T_world_cam)
        held = set(memory.keyframe_ids[memory.held_out].tolist())
        assert (
            before <= held and not np.isin(memory.anchors, np.flatnonzero(memory.held_out)).any()
        )
        before = held
    assert 2 <= len(before) <= 12 and 0 < memory.validation_error_m < 0.05
    trained = kept(
        source,
        memory,
        28,
        rendered.T_world_cam,
        BackendConfig.from_flat({"device": "cpu", "memory.steps": 2}),
    )
    assert set(trained.keyframe_ids[trained.held_out].tolist()) == before
    taught = []
    monkeypatch.setattr(
        keeping, "trained", lambda part, keys, *args, **kwargs: taught.append(len(keys)) or part
    )
    source.asked.clear()
    keeper = MemoryKeeper(source, CONFIG, "cpu")
    keeper._trained(
        memory, memory.T_map_anchor[memory.held_out][0], lambda fraction: None, steps=1
    )
    assert taught and not before & set(source.asked)


def test_nothing_to_remember_is_no_memory(source, rendered, frames):
    from dataclasses import replace

    blind = Frames(
        [replace(frame, keypoint_depth=np.zeros_like(frame.keypoint_depth)) for frame in frames]
    )
    assert kept(blind, None, 5, rendered.T_world_cam) is None


def test_it_can_be_cancelled(source, rendered):
    def step(fraction):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        kept(source, None, 20, rendered.T_world_cam, step=step)


@pytest.mark.parametrize("old", ["memory.safetensors", "submaps"])
def test_a_map_of_an_older_version_gets_a_memory_of_its_keyframes(
    refined_copy, rendered, caplog, old
):
    folder = refined_copy / "snapshots" / "000001"
    (folder / MEMORY_FILE).unlink()
    (folder / old).mkdir() if old == "submaps" else (folder / old).write_bytes(b"an MLP")
    with KeyframeStore(refined_copy, read_only=True) as store, caplog.at_level(logging.INFO):
        backend = Backend(store, CONFIG)
        answer = backend.localize(rendered.queries[2], rendered.camera, verify=False)
    assert answer.code == "ok" and any(
        "older version" in record.getMessage() for record in caplog.records
    )


def test_a_memory_of_other_keyframes_is_refused(refined_copy):
    with KeyframeStore(refined_copy) as store:
        backend = Backend(store, CONFIG)
        backend._scenes.memory.renumbered({3: 99}).save(store.snapshots / "000001" / MEMORY_FILE)
        with pytest.raises(ValueError, match="other keyframes"):
            backend.keeper.load(store.snapshots / "000001", backend.snapshot)
