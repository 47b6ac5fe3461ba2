"""The back end that the worker's threads share: replaced when its config changes, made smaller when
memory runs out, and its absence explained.
"""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from vggt3_ros.config import BackendConfig
from vggt3_ros.refinement.plans import SMALLEST_PLAN, shrunk
from vggt3_ros.worker.held import HeldBackend

CONFIG = BackendConfig()


@pytest.fixture
def held():
    """A HeldBackend whose back ends remember their config; told: levels and texts of shrinking;
    made: all back ends; fails: an exception to raise instead of making one.
    """
    notes = SimpleNamespace(made=[], told=[], fails=None)

    def make(store, config):
        if notes.fails:
            raise notes.fails
        return SimpleNamespace(store=store, config=config, snapshot=None, running_on="cpu")

    held = HeldBackend(
        "store", make, notes.made.append, lambda level, text: notes.told.append((level, text))
    )
    held.notes = notes
    return held


def test_there_is_none_before_it_is_configured(held):
    with pytest.raises(RuntimeError, match="refine before configure"):
        held.get("refine before configure")
    assert held.running_on == ""
    held.configure(CONFIG, 0)
    assert held.get() is held.notes.made[0] and held.get().store == "store"
    assert held.running_on == "cpu" and held.generation == 0
    held.get().snapshot = SimpleNamespace(generation=4)
    assert held.generation == 4


def test_only_another_config_makes_another_back_end(held):
    held.configure(CONFIG, 0)
    held.configure(BackendConfig(), 0)
    assert len(held.notes.made) == 1
    held.configure(replace(CONFIG, device="cpu"), 0)
    held.configure(replace(CONFIG, device="cpu"), 2)
    assert len(held.notes.made) == 3
    assert held.get().config == shrunk(held.config, 2) and held.config.device == "cpu"


def test_why_it_cannot_be_made_is_told_to_whoever_waits(held):
    held.notes.fails = ValueError("no such device")
    waited = []
    waiting = threading.Thread(target=lambda: waited.append(held.wait()))
    waiting.start()
    with pytest.raises(ValueError):
        held.configure(CONFIG, 0)
    waiting.join(20)
    assert waited == [None]
    with pytest.raises(RuntimeError, match="ValueError: no such device"):
        held.get()


def test_work_that_runs_out_of_memory_is_repeated_with_smaller_plans(held):
    held.configure(CONFIG, 0)

    def work():
        slots = held.get().config.memory.max_slots
        if slots > CONFIG.memory.max_slots / 4:
            raise RuntimeError("std::bad_alloc")
        return slots

    assert held.within_memory(work, lambda: "fusion") == CONFIG.memory.max_slots // 4
    assert [level for level, _ in held.notes.told] == [1, 2]
    assert "out of memory in fusion: std::bad_alloc; continuing" in held.notes.told[0][1]
    assert f"{CONFIG.memory.max_slots // 4} slots" in held.notes.told[1][1]
    assert held.config == CONFIG


def test_it_gives_up_after_the_smallest_plan(held):
    held.configure(CONFIG, 0)
    tried = []

    def work():
        tried.append(1)
        raise MemoryError("too much")

    with pytest.raises(MemoryError, match="too much; there is no smaller plan"):
        held.within_memory(work, lambda: "loops")
    assert len(tried) == SMALLEST_PLAN + 1 and not held.shrink("again")


def test_other_errors_pass(held):
    held.configure(CONFIG, 0)
    with pytest.raises(ValueError, match="not of memory"):
        held.within_memory(lambda: int("not of memory"), lambda: "loops")
    assert not held.notes.told and len(held.notes.made) == 1


def test_a_smaller_back_end_that_cannot_be_made_is_explained(held, caplog):
    held.configure(CONFIG, 0)
    held.notes.fails = RuntimeError("the device is gone")
    assert held.shrink("out of memory")
    with pytest.raises(RuntimeError, match="the device is gone"):
        held.get()
    held.wait()  # returns, although there is none
    assert "smaller plan cannot be made" in caplog.text
