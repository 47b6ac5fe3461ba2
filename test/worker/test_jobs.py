"""The refining thread: one request after the other, progress, cancelling, the memory limit, and
distillation when idle.
"""

import threading
from types import SimpleNamespace

import fake_backend
import pytest
from random_keyframes import make_keyframe
from worker_pipe import Pipe

from vggt3_ros.config import BackendConfig
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.worker.held import HeldBackend
from vggt3_ros.worker.in_hand import InHand
from vggt3_ros.worker.jobs import COMMANDS, Jobs


@pytest.fixture
def worker(tmp_path):
    """jobs at work in a thread; ask(number, command, ...) -> the answer, and what was sent before
    it; store.
    """
    pipe, notes = Pipe(), SimpleNamespace(told=[], steps=0, on_step=lambda: None)

    def give_way():
        notes.steps += 1
        notes.on_step()

    with KeyframeStore(tmp_path / "store") as store:
        for id in range(3):
            store.put(make_keyframe(id))
        held = HeldBackend(
            store,
            fake_backend.Backend,
            lambda backend: None,
            lambda level, text: notes.told.append((level, text)),
        )
        jobs = Jobs(pipe.channel, store, held, InHand(lambda hand: None), give_way)
        threading.Thread(target=jobs.work, daemon=True).start()

        def ask(number, command, **values):
            jobs.put(number, {"command": command, **values})
            return pipe.answer(number)

        yield SimpleNamespace(jobs=jobs, store=store, ask=ask, notes=notes, pipe=pipe, held=held)


def configure(worker, steps=3, **values):
    config = {"memory.steps": steps}
    answer, _ = worker.ask(1, "configure", config=config, **values)
    assert answer["event"] == "result", answer
    return answer


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"configure", "reset"}))
def test_nothing_works_before_the_configuration(worker, command):
    answer, _ = worker.ask(5, command, folder="x", merge=False)
    assert answer["code"] == "failed" and f"{command} before configure" in answer["message"]


def test_a_bad_configuration_is_an_error_that_names_it(worker):
    answer, _ = worker.ask(1, "configure", config={"memory.steps": -5})
    assert answer["code"] == "invalid" and "steps" in answer["message"]


def test_a_refinement_reports_progress_publishes_and_answers(worker):
    configure(worker)
    answer, before = worker.ask(2, "refine")
    assert answer["generation"] == 1
    assert before[-1] == {"request": None, "event": "snapshot", "generation": 1}
    assert before[0] == {"request": 2, "event": "progress", "phase": "memory", "fraction": 0.0}
    assert worker.notes.steps >= 6  # it gave way at each step and each report
    assert configure(worker, steps=4)["generation"] == 1


def test_a_running_refinement_can_be_cancelled_and_the_next_runs(worker):
    configure(worker, steps=100_000)
    worker.notes.on_step = lambda: worker.jobs.cancel(2)
    answer, _ = worker.ask(2, "refine")
    assert answer["code"] == "cancelled"
    worker.notes.on_step = lambda: None
    configure(worker)
    assert worker.ask(3, "refine")[0]["generation"] == 1


def test_beyond_the_memory_limit_it_goes_on_with_a_smaller_plan(worker):
    worker.ask(1, "configure", config={"memory.steps": 3, "resources.memory_limit_mb": 1000})
    worker.jobs.used_mb = 1001.0
    assert worker.ask(2, "refine")[0]["generation"] == 1
    ((level, text),) = worker.notes.told
    assert level == 1 and "1001 MB are in use, the limit is 1000 MB" in text
    assert worker.held.config == BackendConfig.from_flat(
        {"memory.steps": 3, "resources.memory_limit_mb": 1000}
    )


def test_reset_clears_the_store_and_a_session_begins(worker):
    configure(worker)
    worker.ask(2, "refine")
    answer, _ = worker.ask(3, "session")
    assert (answer["session"], answer["generation"]) == (1, 1)
    assert worker.ask(4, "reset")[0]["keyframes"] == 3
    assert len(worker.store) == 0 and not worker.store.snapshots.exists()
    assert worker.ask(5, "refine")[0]["code"] == "invalid"


def test_a_map_that_cannot_be_read_is_an_answer_and_nothing_is_lost(worker, tmp_path):
    configure(worker)
    missing = {"folder": str(tmp_path / "missing")}
    assert worker.ask(2, "load", merge=True, **missing)[0]["code"] == "no_map"  # of our own
    worker.ask(3, "refine")
    for merge in (False, True):
        answer, _ = worker.ask(4, "load", merge=merge, **missing)
        assert answer["event"] == "result" and answer["code"] == "unreadable"
        assert str(tmp_path / "missing") in answer["message"]
    assert len(worker.store) == 3 and worker.held.generation == 1


def test_idle_time_is_spent_on_the_memory_until_a_request_comes(worker):
    configure(worker, distil_seconds=60.0)
    worker.ask(2, "refine")
    header, _ = worker.pipe.receive()  # the fake distils once
    assert header == {"request": None, "event": "snapshot", "generation": 2}
    configure(worker, distil_seconds=0.0)
    assert worker.ask(3, "refine")[0]["generation"] == 3


def test_distillation_makes_way_for_a_request_and_publishes_nothing(worker, monkeypatch):
    begun = threading.Event()

    def distil(backend, seconds, cancelled):
        begun.set()
        while not cancelled():
            pass
        raise fake_backend.Cancelled("distillation cancelled")

    monkeypatch.setattr(fake_backend.Backend, "distil", distil)
    configure(worker, distil_seconds=60.0)
    worker.ask(2, "refine")
    assert begun.wait(60)
    answer, before = worker.ask(3, "reset")
    assert answer["keyframes"] == 3 and not before
