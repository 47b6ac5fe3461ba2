"""What the synchronizer asks beside topics: it waits, misses, or has an answer."""

import numpy as np
import pytest

from vggt3_ros.frontend.synchronizer import WAIT, Miss
from vggt3_ros.geometry.frame_tree import NotYet, Unknown
from vggt3_ros.ros.input.tracks import Between, Optional, Timeless


def test_a_calibration_is_waited_for_and_then_holds_at_every_stamp():
    held = []
    track = Timeless(lambda: held[-1] if held else None)
    assert track.at(5) is WAIT
    held.append("k")
    assert track.at(1) == track.at(10**18) == "k"
    held.append("another")
    assert track.at(5) == "another"


def test_what_may_be_missing_is_waited_for_while_somebody_can_send_it():
    publishers, held = [1], []
    track = Optional(lambda: held[-1] if held else None, lambda: bool(publishers))
    assert track.at(0) is WAIT
    publishers.clear()
    assert track.at(0) is None
    held.append("k")
    assert track.at(0) == "k"


def test_a_transform_is_had_awaited_or_missed_and_the_reason_is_kept():
    answers = {1: NotYet("0.2 s behind"), 2: Unknown("no such frame"), 3: None, 4: np.eye(4)}

    def at(stamp_ns):
        if isinstance(answers[stamp_ns], Exception):
            raise answers[stamp_ns]
        return answers[stamp_ns]

    track = Between(at)
    assert track.at(1) is WAIT and track.late == "0.2 s behind"
    missed = track.at(2)
    assert isinstance(missed, Miss) and "no such frame" in str(missed) and track.late == ""
    assert track.at(3) is WAIT and track.late == ""
    assert track.at(4) is answers[4]


def test_another_error_is_not_taken_for_an_answer():
    def broken(stamp_ns):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        Between(broken).at(1)
