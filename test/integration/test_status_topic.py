"""Topic status: what goes on, and what went wrong, in words."""

import os
import signal

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_backend import DEADLY, LARGE
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.msg import Status
from vggt3_ros.srv import SetMode

from vggt3_ros.ros import qos
from vggt3_ros.worker import client as worker_client


def test_tells_phase_progress_and_the_outcome(graph):
    backend = graph.backend(memory__steps=100)
    heard = graph.status()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: heard and heard[-1].generation == 1 and heard[-1].state == Status.IDLE)
    refining = [status for status in heard if status.state == Status.REFINING]
    assert refining and refining[-1].phase == "memory" and 0 < refining[-1].progress <= 1
    last = heard[-1]
    assert (
        last.keyframes,
        last.keyframes_refined,
        last.map_points,
        last.loops_accepted,
        last.loops_rejected,
    ) == (2, 2, 100, 1, 1)
    assert last.refinement_seconds > 0.5 and last.worker_memory_mb > 10 and last.error_msg == ""


def test_idle_time_spent_on_the_memory_is_a_state_of_its_own(graph):
    backend = graph.backend(idle_distillation=20.0)
    heard = graph.status()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: heard and heard[-1].generation == 2 and heard[-1].state == Status.IDLE)
    states = [status.state for status in heard]
    assert Status.DISTILLING in states[states.index(Status.REFINING) :]


def test_what_was_only_localized_is_not_counted_as_stored(graph):
    backend = graph.backend()
    heard = graph.status()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    assert (
        graph.call(
            SetMode, "set_mode", SetMode.Request(mode=SetMode.Request.LOCALIZATION)
        ).error_code
        == 0
    )
    graph.send(make_keyframe(2))
    until(lambda: heard and heard[-1].not_stored == 1)
    assert (heard[-1].received, heard[-1].refused, heard[-1].keyframes) == (3, 0, 2)


def test_a_dead_worker_shows_and_the_node_stays(graph):
    backend = graph.backend()
    heard = graph.status()
    os.kill(backend._core.worker.pid, signal.SIGKILL)
    fault = until(
        lambda: next((s for s in heard if s.state == Status.STARTING and s.error_msg), None)
    )
    assert "SIGKILL" in fault.error_msg
    until(lambda: heard[-1].state == Status.IDLE)
    assert heard[-1].worker_restarts == 1 and heard[-1].error_msg == ""
    graph.send(make_keyframe(0))
    until(lambda: heard[-1].keyframes == 1)


def test_a_back_end_that_cannot_work_is_a_fault_with_a_text(graph):
    graph.backend(wait=False, device="cuda:99")
    heard = graph.status()
    until(lambda: heard and heard[-1].state == Status.FAULT)
    assert "cuda:99 does not exist" in heard[-1].error_msg


def test_a_keyframe_that_ends_the_worker_is_named_and_the_others_are_refined(graph, monkeypatch):
    monkeypatch.setattr(worker_client, "FIRST_RESTART_SECONDS", 0.1)
    graph.backend(refine_every_keyframes=1)
    heard, diagnostics = graph.status(), graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)
    graph.send(make_keyframe(0), make_keyframe(1), make_keyframe(DEADLY))
    until(
        lambda: (
            heard
            and heard[-1].set_aside
            and heard[-1].generation
            and heard[-1].state == Status.IDLE
        ),
        60,
    )
    assert heard[-1].set_aside.startswith(
        f"keyframe {DEADLY} is set aside: killed the worker 3 times, in memory"
    )
    assert (
        heard[-1].keyframes == 3
        and heard[-1].keyframes_refined == 2
        and heard[-1].worker_restarts == 3
    )
    last = until(
        lambda: next(
            (
                d.status[0]
                for d in reversed(diagnostics)
                if f"keyframe {DEADLY}" in d.status[0].message
            ),
            None,
        )
    )
    assert last.level == DiagnosticStatus.WARN
    graph.send(make_keyframe(DEADLY + 100))
    until(lambda: heard[-1].keyframes_refined == 3, 30)
    assert heard[-1].worker_restarts == 3


def test_running_out_of_memory_is_told_and_the_refinement_goes_on(graph):
    backend = graph.backend()
    heard = graph.status()
    graph.refined(make_keyframe(0), make_keyframe(LARGE), backend=backend)
    until(lambda: heard and heard[-1].keyframes_refined == 2)
    assert (
        "out of memory in memory" in heard[-1].memory_msg
        and "150000 slots" in heard[-1].memory_msg
    )
