"""Stages of a refinement: timed by name, reported, cancelled between steps."""

import time

import pytest

from vggt3_ros.system.stages import Cancelled, Stages


def test_stages_of_the_same_name_add_up_and_the_total_counts_what_is_between():
    stages = Stages(None, None)
    for _ in range(2):
        with stages("loops"):
            time.sleep(0.02)
    time.sleep(0.03)
    with stages("fusion") as step:
        step(1.0)
    assert list(stages.seconds) == ["loops", "total", "fusion"]
    assert stages.seconds["loops"] >= 0.04
    assert stages.seconds["total"] >= stages.seconds["loops"] + stages.seconds["fusion"] + 0.03


def test_progress_is_reported_from_the_beginning_of_a_stage():
    reported = []
    with Stages(lambda *told: reported.append(told), None)("loops") as step:
        step(0.5)
    assert reported == [("loops", 0.0), ("loops", 0.5)]


def test_cancelled_work_stops_at_the_next_step_and_names_its_stage():
    asked = iter([False, False, True])
    stages, done = Stages(None, lambda: next(asked)), []
    with pytest.raises(Cancelled, match="cancelled during loops"), stages("loops") as step:
        for piece in range(5):
            step(piece / 5)
            done.append(piece)
    assert done == [0] and stages.seconds == {}


def test_a_cancelled_stage_is_not_begun():
    begun = []
    with pytest.raises(Cancelled), Stages(None, lambda: True)("fusion"):
        begun.append(1)
    assert not begun
