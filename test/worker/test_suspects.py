"""Inputs that kill the worker three times are set aside, across restarts, and no others."""

import numpy as np
import pytest
from random_keyframes import CAMERA, make_keyframe

from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import begin_session
from vggt3_ros.worker.suspects import FATAL, Suspects, digest


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for id in range(6):
            store.put(make_keyframe(id))
        yield store


def hand(*keyframes, phase="features", query=""):
    return {"phase": phase, "keyframes": list(keyframes), "query": query}


def test_a_keyframe_is_set_aside_after_three_deaths_also_across_restarts(store):
    for _ in range(FATAL):
        assert store.poses().ids.tolist() == [0, 1, 2, 3, 4, 5]
        assert Suspects(store).died(hand(3), "SIGSEGV")
    assert (
        store.poses().ids.tolist() == [0, 1, 2, 4, 5]
        and 3 in store
        and len(store.poses(aside=True)) == 6
    )
    assert "3 times, in features: SIGSEGV" in store.aside()[3]
    with KeyframeStore(store.folder) as again:
        assert list(again.aside()) == [3]
    store.clear()
    assert not store.aside()


COUNT, DANGER = 200, 0.005  # keyframes; the probability of a kill from outside in each step


def walk(suspects, rng, deadly=None):
    """A refinement that takes keyframes in hand, two at a time where pairs are matched, and tells
    of it as the worker does. It never completes: it is killed at some step, with nothing in hand
    at the latest, or its deadly keyframe ends it.
    """
    pairs = [sorted(rng.choice(COUNT, 2, replace=False).tolist()) for _ in range(2 * COUNT)]
    steps = [hand(i) for i in range(COUNT)] + [hand(*pair, phase="loops") for pair in pairs]
    before = hand()
    for now in steps:
        suspects.passed(set(before["keyframes"]) - set(now["keyframes"]), before["phase"])
        if rng.random() < DANGER or (now["phase"] == "loops" and deadly in now["keyframes"]):
            return suspects.died(now, "SIGKILL")
        before = now
    return suspects.died({}, "SIGKILL")


def test_random_kills_set_nothing_aside_although_no_refinement_ever_completes(store):
    suspects, rng = Suspects(store), np.random.default_rng(0)
    for _ in range(60):
        assert walk(suspects, rng)
    assert not store.aside()


def test_a_deadly_keyframe_is_found_among_random_kills(store):
    suspects, rng = Suspects(store), np.random.default_rng(1)
    for _ in range(60):
        if not store.aside():
            walk(suspects, rng, deadly=4)
    assert list(store.aside()) == [4]


def test_a_keyframe_is_cleared_by_the_phase_that_it_is_suspected_in_alone(store):
    suspects = Suspects(store)
    for death in range(FATAL):
        suspects.died(hand(3, phase="fusion"), "SIGSEGV") if death else suspects.died(
            hand(3, phase="loops"), "SIGSEGV"
        )
        suspects.passed([3], "features")
    assert not store.aside()
    suspects.passed([3], "fusion")
    suspects.died(hand(3, phase="loops"), "SIGSEGV")
    assert not store.aside()
    Suspects(store).died(hand(3, phase="loops"), "SIGSEGV")
    assert list(store.aside()) == [3]


def test_of_a_pair_the_keyframe_present_at_each_death_is_set_aside(store):
    suspects = Suspects(store)
    for other in (1, 2, 4):
        suspects.died(hand(other, 3, phase="loops"), "SIGSEGV")
    assert list(store.aside()) == [3]
    for _ in range(FATAL):
        suspects.died(hand(0, 5, phase="loops"), "SIGSEGV")
    assert list(store.aside()) == [3, 5]  # the newer; the next pair shows whether it was the other


def test_an_image_is_refused_after_three_deaths_and_cleared_by_an_answer(store):
    suspects = Suspects(store)
    image = make_keyframe(0).image
    asked = digest(image, CAMERA)
    assert asked == digest(image.copy(), CAMERA) != digest(255 - image, CAMERA)
    for _ in range(FATAL - 1):
        suspects.died(hand(query=asked), "SIGSEGV")
    suspects.answered(asked)
    for _ in range(FATAL):
        assert not Suspects(store).refuses(asked)
        suspects.died(hand(query=asked), "SIGSEGV")
    assert Suspects(store).refuses(asked) and not suspects.refuses("another")


def test_an_image_is_set_aside_before_a_keyframe_present_at_the_same_deaths(store):
    suspects = Suspects(store)
    for _ in range(FATAL):
        suspects.died(hand(2, query="image"), "SIGSEGV")
    assert suspects.refuses("image") and not store.aside()
    suspects.died(hand(2), "SIGSEGV")
    assert list(store.aside()) == [2]


def test_a_phase_that_kills_the_worker_without_keyframes_is_not_repeated_for_ever(store):
    suspects = Suspects(store)
    assert [suspects.died(hand(phase="pose_graph"), "SIGSEGV") for _ in range(FATAL + 1)] == [
        True,
        True,
        False,
        False,
    ]
    suspects.refined()
    assert suspects.died(hand(phase="pose_graph"), "SIGSEGV")
    assert suspects.died({}, "SIGKILL")  # idle


def test_a_keyframe_stays_set_aside_in_a_new_session(store):
    store.set_aside(2, "damaged")
    begin_session(store)
    assert list(store.aside()) == [2] and 2 not in store.poses().ids
    store.put(make_keyframe(2, stamp_ns=9))
    assert store.find(2) in store.poses().ids


def test_a_store_that_cannot_be_written_is_an_error_in_the_log_not_in_the_supervisor(
    store, caplog
):
    store.database.connection.execute("PRAGMA query_only=1")
    assert Suspects(store).died(hand(3), "SIGSEGV")
    assert "cannot be noted" in caplog.text
