"""Whether keyframes are suspected is read from the note that the worker's suspects write."""

import pytest
from random_keyframes import make_keyframe

from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.suspicion import DEATHS, any_suspected
from vggt3_ros.worker.suspects import Suspects


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for id in range(3):
            store.put(make_keyframe(id))
        yield store


def test_a_keyframe_in_hand_at_a_death_is_suspected_until_it_is_cleared(store):
    assert not any_suspected(store)
    suspects = Suspects(store)
    suspects.died({"phase": "loops", "keyframes": [1], "query": ""}, "SIGSEGV")
    assert any_suspected(store)
    with KeyframeStore(store.folder, read_only=True) as again:  # as the worker reads it
        assert any_suspected(again)
    suspects.passed([1], "loops")
    assert not any_suspected(store)


def test_images_and_phases_are_no_keyframes(store):
    suspects = Suspects(store)
    suspects.died({"phase": "", "keyframes": [], "query": "digest"}, "SIGSEGV")
    suspects.died({"phase": "pose_graph", "keyframes": [], "query": ""}, "SIGSEGV")
    assert store.get_note(DEATHS) and not any_suspected(store)
