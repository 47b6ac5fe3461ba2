"""The scene that is served, through publishing, restarts and damage."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import snapshots
from random_keyframes import make_keyframe

from vggt3_ros.memory.scenes import Scenes
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import begin_session

NO_MEMORY = lambda folder, snapshot: None


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        for k in range(3):
            store.put(make_keyframe(k))
        yield store


def snapshot_of(store, generation):
    poses = store.poses()
    return replace(
        snapshots.make(len(poses)),
        generation=generation,
        keyframe_ids=poses.ids,
        stamps_ns=poses.stamps_ns,
        loops=(),
        sessions=poses.sessions,
        session=store.session,
    )


def test_without_a_snapshot_nothing_is_served(store):
    scenes = Scenes(store, None, NO_MEMORY, keep=2)
    assert (scenes.current, scenes.snapshot, scenes.memory, scenes.places) == (None,) * 4
    assert scenes.next_generation() == 1
    scenes.follow_session()
    assert scenes.current is None


def test_what_is_published_is_served_also_after_a_restart_and_old_ones_go(store):
    scenes = Scenes(store, None, NO_MEMORY, keep=2)
    for generation in (1, 2, 3):
        assert scenes.next_generation() == generation
        scenes.publish(snapshot_of(store, generation), None, None)
        assert scenes.snapshot.generation == generation
    assert sorted(path.name for path in store.snapshots.iterdir()) == ["000002", "000003"]
    again = Scenes(store, None, NO_MEMORY, keep=2)
    assert again.snapshot.generation == 3 and again.next_generation() == 4
    np.testing.assert_array_equal(again.snapshot.T_map_cam, scenes.snapshot.T_map_cam)


@pytest.mark.parametrize("damage", ["snapshot", "memory"])
def test_a_damaged_snapshot_is_passed_over_and_its_number_is_not_used_again(store, damage, caplog):
    first = Scenes(store, None, NO_MEMORY, keep=5)
    for generation in (1, 2):
        first.publish(snapshot_of(store, generation), None, None)

    def load_memory(folder, snapshot):
        if damage == "memory" and snapshot.generation == 2:
            raise ValueError("the memory of generation 2 is damaged")

    if damage == "snapshot":
        (arrays,) = (store.snapshots / "000002").glob("arrays.*")
        arrays.write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        scenes = Scenes(store, None, load_memory, keep=5)
    assert scenes.snapshot.generation == 1 and scenes.next_generation() == 3
    assert caplog.text.count("serving an older snapshot") == 1


def test_a_new_session_keeps_the_scene(store):
    scenes = Scenes(store, None, NO_MEMORY, keep=2)
    scenes.publish(snapshot_of(store, 1), None, None)
    before = scenes.current
    begin_session(store)
    scenes.follow_session()
    assert scenes.snapshot.session == store.session != before.snapshot.session
    assert scenes.snapshot.T_map_cam is before.snapshot.T_map_cam
    # what asked before has the whole of the old one
    assert before.snapshot.session != store.session
