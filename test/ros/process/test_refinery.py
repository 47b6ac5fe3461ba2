"""When refinements begin, whom they answer, and what a cancel ends: one's own goal, and not the
next moment the same again.
"""

import logging
from concurrent.futures import Future

import pytest

from vggt3_ros.ros.process import refinery as module
from vggt3_ros.ros.process.refinery import Refinery
from vggt3_ros.worker.client import WorkerError


class Worker:
    """Does what the test says, when it says so."""

    ready = True

    def __init__(self):
        self.asked, self.progress, self.cancelled = [], [], []

    def refine(self, progress):
        self.asked.append(Future())
        self.progress.append(progress)
        return self.asked[-1]

    def cancel(self, future):
        self.cancelled.append(future)

    def ends(self, code=None):
        if code is None:
            self.asked[-1].set_result({"generation": len(self.asked)})
        else:
            self.asked[-1].set_exception(WorkerError(code, code))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def make(worker):
    return lambda keyframes=0, seconds=0.0, waiting=0: Refinery(
        worker, lambda: (keyframes, seconds), waiting, lambda: None, logging.getLogger("refinery")
    )


def code(wish):
    return wish.exception(0).code


def test_so_many_keyframes_start_one_and_those_that_come_meanwhile_the_next(make, worker):
    refinery = make(keyframes=3)
    for _ in range(2):
        refinery.keyframe_added()
    assert not worker.asked
    for _ in range(4):
        refinery.keyframe_added()
    assert len(worker.asked) == 1 and refinery.waiting == 3
    worker.ends()
    assert len(worker.asked) == 2 and refinery.waiting == 0


def test_seconds_start_one_when_a_keyframe_is_there(make, worker, clock):
    refinery = make(seconds=30.0)
    clock.now += 31
    refinery.tick()
    assert not worker.asked
    refinery.keyframe_added()
    assert len(worker.asked) == 1
    worker.ends()
    refinery.keyframe_added()
    clock.now += 29
    refinery.tick()
    assert len(worker.asked) == 1
    clock.now += 2
    refinery.tick()
    assert len(worker.asked) == 2


def test_a_cancelled_one_is_not_begun_again_before_as_many_new_keyframes_have_come(make, worker):
    refinery = make(keyframes=3, waiting=5)
    wish = refinery.request()
    refinery.withdraw(wish)
    # not before the worker has stopped
    assert worker.cancelled == worker.asked and not wish.done()
    worker.ends("cancelled")
    assert code(wish) == "cancelled" and refinery.waiting == 5
    for _ in range(2):
        refinery.keyframe_added()
    assert len(worker.asked) == 1
    refinery.keyframe_added()
    assert len(worker.asked) == 2 and refinery.waiting == 0  # and it covers all eight
    worker.ends()
    for _ in range(3):
        refinery.keyframe_added()
    assert len(worker.asked) == 3


def test_nor_after_some_seconds_before_a_new_keyframe_has_come(make, worker, clock):
    refinery = make(seconds=30.0, waiting=5)
    refinery.withdraw(refinery.request())
    clock.now += 100
    worker.ends("cancelled")
    refinery.tick()
    clock.now += 100
    refinery.tick()
    assert len(worker.asked) == 1
    refinery.keyframe_added()
    assert len(worker.asked) == 2


def test_what_is_asked_for_after_a_cancel_begins_at_once(make, worker):
    refinery = make(keyframes=3, waiting=5)
    refinery.withdraw(refinery.request())
    again = refinery.request()
    worker.ends("cancelled")
    assert len(worker.asked) == 2
    worker.ends()
    assert again.result(0) == 2


def test_a_cancel_ends_ones_own_goal_alone(make, worker):
    refinery = make()
    first, second = None, None
    refinery.pause()
    first, second = refinery.request(), refinery.request()
    refinery.resume()
    later = refinery.request()
    refinery.withdraw(first)
    assert (
        code(first) == "cancelled"
        and not worker.cancelled
        and not second.done()
        and not later.done()
    )
    worker.ends()
    assert second.result(0) == 1 and not later.done()
    refinery.withdraw(later)
    assert worker.cancelled == [worker.asked[1]]
    worker.ends("cancelled")
    assert code(later) == "cancelled"


def test_a_goal_that_waits_is_dropped_and_the_one_that_runs_goes_on(make, worker):
    refinery = make(keyframes=1)
    refinery.keyframe_added()  # starts by itself
    waiting, other = refinery.request(), refinery.request()
    refinery.withdraw(waiting)
    assert code(waiting) == "cancelled" and not worker.cancelled
    worker.ends()
    worker.ends()
    assert other.result(0) == 2
    refinery.withdraw(waiting)
    refinery.withdraw(other)  # both have ended: nothing happens
    assert not worker.cancelled


def test_cancelling_twice_and_a_refinement_that_ends_before_it_hears_of_it(make, worker):
    refinery = make()
    wish = refinery.request()
    refinery.withdraw(wish)
    refinery.withdraw(wish)
    assert len(worker.cancelled) == 1
    worker.ends()
    assert wish.result(0) == 1
    wish = refinery.request()
    worker.ends()
    assert wish.result(0) == 2


def test_a_pause_ends_everything_and_what_was_due_is_due_afterwards(make, worker):
    refinery = make(keyframes=3, waiting=3)
    wish = refinery.request()
    later = refinery.request()
    refinery.pause()
    worker.ends("cancelled")
    assert code(wish) == code(later) == "cancelled" and not refinery.running
    refinery.keyframe_added()
    assert len(worker.asked) == 1
    refinery.resume()
    assert len(worker.asked) == 2 and refinery.waiting == 0


@pytest.mark.parametrize(
    "end, waiting, error",
    [
        ("died", 4, "died"),
        ("failed", 0, "failed"),
        ("hopeless", 0, "hopeless"),
        ("cancelled", 4, ""),
        ("invalid", 0, "invalid"),
    ],
)
def test_keyframes_still_wait_unless_they_may_be_at_fault(make, worker, end, waiting, error):
    refinery = make(waiting=4)
    wish = refinery.request()
    worker.ready = False
    worker.ends(end)
    assert (refinery.waiting, refinery.error, code(wish)) == (waiting, error, end)


def test_one_listener_that_fails_keeps_nothing_from_the_others(make, worker, caplog):
    refinery, heard = make(), []
    refinery.pause()
    refinery.request(lambda *_: 1 / 0)
    refinery.request(lambda *progress: heard.append(progress))
    refinery.resume()
    worker.progress[-1]("loops", 0.5)
    assert (
        heard == [("loops", 0.5)] == [(refinery.phase, refinery.progress)]
        and "ZeroDivisionError" in caplog.text
    )
