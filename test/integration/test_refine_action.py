"""Action refine: phases as feedback, a report as result, a cancel that works; and refinements that
start by themselves.
"""

import json
import os
import signal
import time

import pytest
from action_msgs.msg import GoalStatus
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.action import Refine

from vggt3_ros.ros.clients.goal_client import GoalClient


def send(graph, feedback=None):
    client = GoalClient(graph.client, Refine, "refine")
    assert client.wait_for_server(10)
    return graph.wait(client.send_goal_async(Refine.Goal(), feedback_callback=feedback))


def test_reports_phases_and_result(graph):
    backend = graph.backend(memory__steps=30)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    heard = []
    goal = send(
        graph, lambda message: heard.append((message.feedback.phase, message.feedback.progress))
    )
    answer = graph.wait(goal.get_result_async())
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    result = answer.result
    assert (result.error_code, result.generation, result.keyframes, result.map_points) == (
        Refine.Result.NONE,
        1,
        2,
        100,
    )
    assert (result.loops_accepted, result.loops_rejected) == (1, 1) and result.seconds > 0.2
    report = json.loads(
        result.report, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON")
    )
    assert report["seconds"] == {"total": 0.5} and report["memory_error_m"] is None
    assert len(heard) > 1 and all(
        phase == "memory" and 0 <= progress <= 1 for phase, progress in heard
    )


def test_nothing_to_refine_is_a_result_with_a_text(graph):
    graph.backend()
    answer = graph.wait(send(graph).get_result_async())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert (
        answer.result.error_code == Refine.Result.NOTHING_TO_REFINE
        and "at least 2 keyframes" in answer.result.error_msg
    )


def test_cancel_takes_effect_within_two_seconds_and_keeps_the_map(graph):
    backend = graph.backend(memory__steps=10_000)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    goal = send(graph)
    until(lambda: backend._core.refinery.running)
    begin = time.monotonic()
    goal.cancel_goal_async()
    answer = graph.wait(goal.get_result_async())
    assert time.monotonic() - begin < 2.0
    assert (
        answer.status == GoalStatus.STATUS_CANCELED
        and answer.result.error_code == Refine.Result.CANCELED
    )
    assert backend._core.snapshot is None and not backend._core.refinery.running


def test_a_cancel_ends_ones_own_goal_and_the_others_go_on(graph):
    backend = graph.backend(memory__steps=200)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    running, waiting, other = (send(graph) for _ in range(3))
    until(lambda: backend._core.refinery.running)
    waiting.cancel_goal_async()
    assert graph.wait(waiting.get_result_async()).status == GoalStatus.STATUS_CANCELED
    for goal, generation in ((running, 1), (other, 2)):
        answer = graph.wait(goal.get_result_async())
        assert (answer.status, answer.result.generation) == (
            GoalStatus.STATUS_SUCCEEDED,
            generation,
        )


def test_what_was_cancelled_does_not_begin_by_itself_at_once(graph):
    """The keyframes that would start one are there already; as many more are needed."""
    backend = graph.backend(memory__steps=10_000, refine_every_keyframes=2)
    graph.send(make_keyframe(0))
    until(lambda: len(backend._core.store) == 1)
    goal = send(graph)
    graph.wait(goal.get_result_async())  # one keyframe is too few
    graph.send(make_keyframe(1), make_keyframe(2))
    until(lambda: len(backend._core.store) == 3 and backend._core.refinery.running)
    goal = send(graph)  # waits behind the one that has begun by itself
    until(lambda: backend._core.refinery.wishes == 1)  # a goal is accepted before it asks
    backend._core.refinery.pause()
    graph.wait(goal.get_result_async())
    until(lambda: not backend._core.refinery.running)
    goal = send(graph)
    until(lambda: backend._core.refinery.wishes == 1)
    backend._core.refinery.resume()
    until(lambda: backend._core.refinery.running)
    goal.cancel_goal_async()
    assert graph.wait(goal.get_result_async()).status == GoalStatus.STATUS_CANCELED
    assert backend._core.refinery.waiting == 2
    time.sleep(2.0)  # the node looks every tenth of a second
    assert not backend._core.refinery.running
    graph.send(make_keyframe(3), make_keyframe(4))
    until(lambda: backend._core.refinery.running and backend._core.refinery.waiting == 0)


def test_a_worker_that_dies_aborts_the_goal(graph):
    backend = graph.backend(memory__steps=10_000)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    goal = send(graph)
    until(lambda: backend._core.refinery.running)
    os.kill(backend._core.worker.pid, signal.SIGKILL)
    answer = graph.wait(goal.get_result_async())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert (
        answer.result.error_code == Refine.Result.NO_WORKER
        and "SIGKILL" in answer.result.error_msg
    )


def test_every_n_keyframes_start_one(graph):
    backend = graph.backend(refine_every_keyframes=3)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    time.sleep(0.3)
    assert backend._core.snapshot is None
    graph.send(make_keyframe(2))
    assert len(until(lambda: backend._core.snapshot)) == 3
    graph.send(*(make_keyframe(id) for id in range(3, 9)))
    until(lambda: len(backend._core.snapshot) >= 6)


def test_after_some_seconds_one_new_keyframe_is_enough(graph):
    backend = graph.backend(refine_every_seconds=1.0)
    graph.send(make_keyframe(0), make_keyframe(1))
    assert len(until(lambda: backend._core.snapshot)) == 2


def test_keyframes_of_a_refinement_that_died_are_refined_by_the_next_worker(graph):
    backend = graph.backend(refine_every_keyframes=2, memory__steps=100)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: backend._core.refinery.running)
    os.kill(backend._core.worker.pid, signal.SIGKILL)
    assert len(until(lambda: backend._core.snapshot)) == 2
    assert backend._core.worker.restarts == 1


def test_idle_time_improves_the_map_that_is_served(graph):
    backend = graph.backend(idle_distillation=20.0)
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: backend._core.snapshot.generation == 2)
