"""Topic /diagnostics: what monitors need, with a level. Of the input: test_nothing_arrives.py."""

import os
import signal

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from random_keyframes import make_keyframe
from ros_graph import until

from vggt3_ros.ros import qos


def listen(graph):
    return graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)


def newest(heard):
    """Values of the newest status of the back end, {}: none yet."""
    of_back_end = [
        status
        for array in list(heard)
        for status in array.status
        if status.name == "vggt3_ros: back end"
    ]
    return {pair.key: pair.value for pair in of_back_end[-1].values} if of_back_end else {}


def test_counts_times_residuals_and_the_last_correction(graph):
    backend = graph.backend()
    heard = listen(graph)
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    graph.send(make_keyframe(2))
    until(lambda: newest(heard).get("keyframes") == "3" and newest(heard).get("generation") == "1")
    values = newest(heard)
    counts = "keyframes_refined", "keyframes_waiting", "loops_accepted", "loops_rejected"
    assert [values[name] for name in counts] == ["2", "1", "1", "1"]
    assert values["last_correction"] == "1.000 m, 0.0000 rad by refinement 1"
    assert values["loop_residual"] == "0.0100 m, 0.0200 rad"
    assert float(values["refinement_seconds"]) > 0 and int(values["worker_memory_mb"]) > 10
    assert (values["model"], values["device"]) == ("embedded", "auto")


def test_a_dead_worker_is_a_warning_with_its_cause_until_another_works(graph):
    backend = graph.backend()
    heard = listen(graph)
    os.kill(backend._core.worker.pid, signal.SIGKILL)
    warned = until(
        lambda: [
            d.status[0]
            for d in heard
            if d.status[0].level == DiagnosticStatus.WARN and "SIGKILL" in d.status[0].message
        ]
    )
    assert warned[0].hardware_id == "vggt3_ros"
    until(
        lambda: (
            newest(heard).get("worker_restarts") == "1"
            and heard[-1].status[0].level == DiagnosticStatus.OK
        )
    )


def test_a_back_end_that_cannot_work_is_an_error(graph):
    graph.backend(wait=False, device="cuda:99")
    heard = listen(graph)
    until(
        lambda: any(
            d.status[0].level == DiagnosticStatus.ERROR
            and "cuda:99 does not exist" in d.status[0].message
            for d in heard
        )
    )


def test_refusals_are_counted(graph):
    backend = graph.backend()
    heard = listen(graph)
    graph.send(make_keyframe(0), odom_frame="")
    until(lambda: backend._core.intake.refused == 1)
    until(lambda: newest(heard).get("refused") == "1")
    assert "header.frame_id is empty" in newest(heard)["last_refusal"]


def test_why_the_network_is_not_used_is_said(graph):
    backend = graph.backend(network__checkpoint="weights.safetensors")
    heard = listen(graph)
    graph.refined(*[make_keyframe(i) for i in range(3)], backend=backend)
    until(lambda: newest(heard).get("network") == "not used: it stands still")
    assert newest(heard)["model"] == "weights.safetensors"


def test_device_numbers_prior_and_licence_are_one_line(graph):
    graph.backend(network__checkpoint="nvidia/vgg-ttt")
    heard, status = listen(graph), graph.status()
    expected = "auto, float32, no networks; prior nvidia/vgg-ttt, any licence"
    until(lambda: newest(heard).get("running_on") == expected)
    until(lambda: status and status[-1].running_on == expected)
