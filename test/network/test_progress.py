"""Progress and cancellation of a pass."""

import pytest

from vggt3_ros.network.progress import Progress
from vggt3_ros.system.stages import Cancelled


def test_fractions_are_of_the_total_and_never_beyond_one():
    reports = []
    progress = Progress(lambda fraction, stage: reports.append((fraction, stage)))
    progress.start(4)
    progress.advance(1, "a")
    progress.advance(2, "b")
    progress.advance(2, "b")
    assert reports == [(0.25, "a"), (0.75, "b"), (1.0, "b")]


def test_a_retried_pass_begins_again():
    reports = []
    progress = Progress(lambda fraction, stage: reports.append(fraction))
    for _ in range(2):
        progress.start(2)
        progress.advance(1, "a")
    assert reports == [0.5, 0.5]


def test_a_cancelled_step_is_not_reported():
    reports, stop = [], [False, False, True]
    progress = Progress(lambda *report: reports.append(report), lambda: stop.pop(0))
    progress.start(3)
    progress.advance(1, "a")
    progress.check()
    with pytest.raises(Cancelled):
        progress.advance(1, "b")
    assert len(reports) == 1


def test_nothing_to_report_to_and_nothing_to_do():
    progress = Progress()
    progress.check()
    progress.advance(1, "without a start")
    Progress(lambda fraction, stage: None).advance(1, "without a start")
