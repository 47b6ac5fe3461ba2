"""Topics status and /diagnostics: what goes on, and what went wrong, in words."""

import os
import signal

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from random_keyframes import make_keyframe
from ros_graph import until

from vggt3_ros.msg import Status
from vggt3_ros.ros import qos


def test_tells_phase_progress_and_the_outcome(graph):
    backend = graph.backend(memory__steps=100)
    heard = graph.status()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: heard and heard[-1].generation == 1 and heard[-1].state == Status.IDLE)
    refining = [status for status in heard if status.state == Status.REFINING]
    assert refining and refining[-1].phase == "memory" and 0 < refining[-1].progress <= 1
    last = heard[-1]
    assert (last.keyframes, last.keyframes_refined, last.map_points, last.loops_accepted, last.loops_rejected) == (2, 2, 100, 1, 1)
    assert last.refinement_seconds > 0.5 and last.worker_memory_mb > 10 and last.error_msg == ""


def test_a_dead_worker_shows_in_status_and_diagnostics_and_the_node_stays(graph):
    backend = graph.backend()
    heard, diagnostics = graph.status(), graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)
    os.kill(backend._core.worker.pid, signal.SIGKILL)
    fault = until(lambda: next((s for s in heard if s.state == Status.STARTING and s.error_msg), None))
    assert "SIGKILL" in fault.error_msg
    warned = until(lambda: [d.status[0] for d in diagnostics if d.status[0].level != DiagnosticStatus.OK])
    assert "SIGKILL" in warned[0].message
    until(lambda: heard[-1].state == Status.IDLE)
    assert heard[-1].worker_restarts == 1 and heard[-1].error_msg == ""
    graph.send(make_keyframe(0))
    until(lambda: heard[-1].keyframes == 1)


def test_a_back_end_that_cannot_work_is_a_fault_with_a_text(graph):
    graph.backend(wait=False, device="cuda:99")
    heard = graph.status()
    until(lambda: heard and heard[-1].state == Status.FAULT)
    assert "cuda:99 does not exist" in heard[-1].error_msg


def test_refusals_are_counted_in_diagnostics(graph):
    backend = graph.backend()
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)
    graph.send(make_keyframe(0), odom_frame="")
    until(lambda: backend._core.intake.refused == 1)

    def values():
        return {pair.key: pair.value for pair in diagnostics[-1].status[0].values} if diagnostics else {}

    until(lambda: values().get("refused") == "1")
    assert "header.frame_id is empty" in values()["last_refusal"]


def test_why_the_network_is_not_used_is_in_diagnostics(graph):
    backend = graph.backend(network__checkpoint="weights.safetensors")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)
    graph.refined(*[make_keyframe(i) for i in range(3)], backend=backend)
    until(lambda: any(pair.key == "network" and pair.value == "not used: it stands still"
                      for heard in diagnostics for pair in heard.status[0].values))
