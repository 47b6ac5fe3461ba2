"""Keyframe messages into the store, without a node: what is counted as what, and what is on the
disk when it is.
"""

import logging
from dataclasses import replace

import numpy as np
import pytest
from random_keyframes import assert_same, make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import begin_session

pytest.importorskip("rclpy", reason="messages are needed")

from vggt3_ros.ros.conversions import from_keyframe
from vggt3_ros.ros.input.intake import AHEAD_SECONDS, Intake

NOW_NS = 1_700_000_100 * 10**9


class Log(logging.LoggerAdapter):
    """Takes rclpy's options."""

    def log(self, level, message, *arguments, throttle_duration_sec=None, **options):
        super().log(level, message, *arguments, **options)


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path) as store:
        yield store


@pytest.fixture
def added():
    return []


@pytest.fixture
def intake(store, added):
    return make(store, added)


def make(store, added=None, now_ns=lambda: NOW_NS):
    hear = lambda: added is not None and added.append(len(store))
    return Intake(store, "", hear, Log(logging.getLogger("intake"), {}), "map", now_ns)


def counts(intake):
    return intake.received, intake.updated, intake.refused, intake.not_stored


def test_what_is_counted_is_stored_and_readable_by_another_process(intake, store, added):
    for number in range(3):
        assert intake.take(from_keyframe(make_keyframe(number)))
        with KeyframeStore(store.folder, read_only=True) as other:
            assert len(other) == intake.received == number + 1
            assert_same(other.get(number), make_keyframe(number))
    assert added == [1, 2, 3] and counts(intake) == (3, 0, 0, 0) and intake.odom_frame == "odom"


def test_a_known_id_is_an_update_and_another_image_or_stamp_under_it_is_refused(intake, store):
    first = make_keyframe(4)
    moved = replace(first, T_odom_cam=se3.exp([1, 2, 3, 0.1, 0, 0]))
    assert intake.take(from_keyframe(first)) and intake.take(from_keyframe(moved))
    np.testing.assert_allclose(store.get(4).T_odom_cam, moved.T_odom_cam, atol=1e-9)
    assert not intake.take(from_keyframe(replace(first, image=255 - first.image)))
    assert not intake.take(from_keyframe(replace(first, stamp_ns=first.stamp_ns + 1)))
    assert counts(intake) == (4, 1, 2, 0) and "keyframe 4" in intake.last_refusal


def test_a_keyframe_that_is_only_localized_is_not_acknowledged(intake, store, added):
    seen = []
    intake.divert(seen.append)
    assert intake.take(from_keyframe(make_keyframe(0)))
    assert counts(intake) == (1, 0, 0, 1) and len(seen) == 1 and not len(store) and not added
    intake.store()
    assert intake.take(from_keyframe(make_keyframe(0)))
    assert counts(intake) == (2, 0, 0, 1) and store.ids() == [0]


def test_a_keyframe_that_would_be_nobodys_is_refused_with_the_reason(intake, store):
    intake.close("a map is loaded")
    assert not intake.take(from_keyframe(make_keyframe(0)))
    assert (
        counts(intake) == (1, 0, 1, 0)
        and "a map is loaded" in intake.last_refusal
        and not len(store)
    )
    intake.divert(lambda keyframe: None)
    assert intake.take(from_keyframe(make_keyframe(0))) and counts(intake) == (2, 0, 1, 1)


def test_stamps_of_the_past_and_of_the_future_are_refused_in_words(intake, store):
    assert intake.take(from_keyframe(make_keyframe(0, stamp_ns=NOW_NS)))
    assert not intake.take(from_keyframe(make_keyframe(1, stamp_ns=NOW_NS - 1)))
    assert "did the clock or the bag restart" in intake.last_refusal
    assert not intake.take(
        from_keyframe(make_keyframe(2, stamp_ns=NOW_NS + int((AHEAD_SECONDS + 1) * 1e9)))
    )
    assert "ahead of this node's clock" in intake.last_refusal
    assert intake.take(
        from_keyframe(make_keyframe(3, stamp_ns=NOW_NS + int((AHEAD_SECONDS - 1) * 1e9)))
    )
    simulated = make(store, now_ns=lambda: 0)  # time has not begun: nothing is known of it
    assert simulated.take(from_keyframe(make_keyframe(5, stamp_ns=2 * NOW_NS)))


def test_frames_must_be_one_and_not_ours(intake, store):
    for frame, text in (
        ("", "is empty"),
        ("map", "the name of this node's map frame"),
        ("x" * 300, "printable characters"),
        ("a\0b", "printable"),
    ):
        assert not intake.take(from_keyframe(make_keyframe(0), odom_frame=frame))
        assert text in intake.last_refusal
    assert intake.take(from_keyframe(make_keyframe(0), odom_frame="here"))
    assert (
        not intake.take(from_keyframe(make_keyframe(1), odom_frame="there"))
        and "but the previous poses are in 'here'" in intake.last_refusal
    )
    assert make(store).odom_frame == "here"  # after a restart
    assert counts(intake) == (6, 0, 5, 0)


def test_a_new_session_takes_ids_and_stamps_of_its_own(intake, store):
    assert intake.take(from_keyframe(make_keyframe(0, stamp_ns=NOW_NS)))
    again = from_keyframe(make_keyframe(0, stamp_ns=1000), odom_frame="another")
    assert not intake.take(again)
    begin_session(store)
    intake.forget()
    assert intake.take(again) and len(store) == 2 and intake.odom_frame == "another"
    late = from_keyframe(make_keyframe(1, stamp_ns=999), odom_frame="another")
    assert not intake.take(late)
    moved = replace(make_keyframe(0, stamp_ns=1000), T_odom_cam=np.eye(4))
    assert intake.take(from_keyframe(moved, odom_frame="another")) and intake.updated == 1


def test_a_disk_that_refuses_is_a_fault_until_it_takes_again(intake, store):
    store.database.connection.execute("PRAGMA query_only=1")
    assert not intake.take(from_keyframe(make_keyframe(0)))
    assert "cannot store keyframes" in intake.fault and counts(intake) == (1, 0, 1, 0)
    store.database.connection.execute("PRAGMA query_only=0")
    assert intake.take(from_keyframe(make_keyframe(0))) and intake.fault == ""


def test_a_jump_of_the_front_end_is_remembered_and_not_in_another_runs_store(intake, store):
    jump = se3.exp([1, 0, 0, 0, 0, 0.5])
    intake.moved(jump)
    np.testing.assert_allclose(make(store).T_kept_frontend, jump, atol=1e-12)
    for elsewhere in (
        lambda: intake.divert(lambda keyframe: None),
        lambda: intake.close("a map is loaded"),
    ):
        elsewhere()
        intake.moved(np.eye(4))
        np.testing.assert_allclose(make(store).T_kept_frontend, jump, atol=1e-12)
        intake.store()
    store.note("T_kept_frontend", "[1, 2]")
    np.testing.assert_array_equal(make(store).T_kept_frontend, np.eye(4))


def test_infrared_of_10_bits_gets_one_scale_that_the_store_remembers(store):
    from sensor_msgs.msg import Image

    def sent(number, share):
        keyframe = make_keyframe(number)
        message = from_keyframe(keyframe)
        pixels = (
            np.random.default_rng(0).random((keyframe.camera.height, keyframe.camera.width))
            * 1000
            * share
        ).astype(np.uint16)
        image = Image(
            header=message.image.header,
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding="mono16",
            step=2 * pixels.shape[1],
        )
        image.data.frombytes(pixels.tobytes())
        message.image = image
        return message, pixels

    message, bright = sent(0, 1.0)
    np.testing.assert_array_equal(make(store).take(message).image[..., 0], bright >> 2)
    again = make(store)  # after a restart
    assert again.levels.bits == 10
    message, dark = sent(1, 0.1)
    np.testing.assert_array_equal(again.take(message).image[..., 0], dark >> 2)
    store.clear()
    again.forget()
    assert again.levels.bits == 0
