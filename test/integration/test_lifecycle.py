"""Lifecycle: transitions from outside, again and again; errors as states with a text; a request on
its way does no harm.
"""

import threading

import psutil
import pytest
from fake_backend import SLOW
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from random_keyframes import CAMERA, make_keyframe
from ros_graph import until
from vggt3_ros.srv import GetTrajectory, Localize, SaveMap, SetMode

from vggt3_ros.ros import node
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.image_messages import from_rgb

CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)
NAV2_MANAGER_SECONDS = 5.0  # how long its lifecycle manager waits for a transition


def change(graph, transition):
    answer = graph.call(
        ChangeState,
        "/vggt3_ros/change_state",
        ChangeState.Request(transition=Transition(id=transition)),
        30,
    )
    return answer.success


def state(graph):
    return graph.ask(GetState, "/vggt3_ros/get_state", GetState.Request()).current_state.id


def slow_request(twentieths):
    """A localize request that keeps the worker busy for so long."""
    image = make_keyframe(0).image.copy()
    image[0, 0] = (*SLOW, twentieths)
    return Localize.Request(image=from_rgb(image), camera_info=from_camera(CAMERA))


def test_a_manager_takes_it_through_its_states_and_the_store_stays(graph):
    earlier = set(threading.enumerate())  # of nodes of other tests, which may still be ending
    backend = graph.backend(activate=False)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    for _ in range(3):
        assert change(graph, CONFIGURE) and state(graph) == State.PRIMARY_STATE_INACTIVE
        for _ in range(2):
            assert change(graph, ACTIVATE) and state(graph) == State.PRIMARY_STATE_ACTIVE
            until(lambda: graph.keyframes.get_subscription_count())
            before = len(backend._core.store)
            graph.send(make_keyframe(before))
            until(lambda: len(backend._core.store) == before + 1)
            assert change(graph, DEACTIVATE)
            until(lambda: not graph.keyframes.get_subscription_count())
        worker = backend._core.worker.pid
        assert change(graph, CLEANUP) and state(graph) == State.PRIMARY_STATE_UNCONFIGURED
        assert not psutil.pid_exists(worker)  # its memory and the device are free
        until(
            lambda: (
                not [
                    thread
                    for thread in set(threading.enumerate()) - earlier
                    if thread.name.startswith(("worker_supervisor", "snapshot_loader"))
                ]
            )
        )
    assert change(graph, CONFIGURE)
    assert len(backend._core.store) == 6


def test_refining_and_localizing_go_on_after_another_round(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    assert all(
        change(graph, transition) for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE)
    )
    until(lambda: backend._core.worker.ready)
    assert graph.call(Localize, "localize", slow_request(0)).generation == 1
    assert graph.refined(make_keyframe(2), backend=backend).generation == 2


def test_configuring_does_not_wait_for_the_models(graph):
    graph.backend(activate=False, real=True)
    client = graph.client.create_client(ChangeState, "/vggt3_ros/change_state")
    assert client.wait_for_service(10)
    graph.wait(
        client.call_async(ChangeState.Request(transition=Transition(id=CONFIGURE))),
        NAV2_MANAGER_SECONDS,
    )


def test_no_service_waits_for_another(graph):
    backend = graph.backend(localize_timeout=60.0)
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    client = graph.client.create_client(Localize, "localize")
    assert client.wait_for_service(10)
    blocked = [client.call_async(slow_request(200)) for _ in range(2)]
    assert len(graph.call(GetTrajectory, "get_trajectory", GetTrajectory.Request()).ids) == 2
    assert graph.call(SaveMap, "save_map", SaveMap.Request(name="meanwhile")).keyframes == 2
    assert (
        graph.call(SetMode, "set_mode", SetMode.Request(mode=SetMode.Request.MAPPING)).error_code
        == 0
    )
    assert not any(future.done() for future in blocked)


def test_deactivating_while_a_request_runs_leaves_the_node_alive(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    client = graph.client.create_client(Localize, "localize")
    assert client.wait_for_service(10)
    client.call_async(slow_request(10))
    until(lambda: backend._core.worker._pending)
    assert change(graph, DEACTIVATE)
    until(lambda: not backend._core.worker._pending)
    assert state(graph) == State.PRIMARY_STATE_INACTIVE and change(graph, ACTIVATE)
    assert graph.call(Localize, "localize", slow_request(0)).error_code == Localize.Response.NONE


def test_a_store_that_cannot_be_used_fails_the_configuration(graph):
    folder = graph.folder / "store"
    folder.mkdir()
    (folder / "keyframes.db").write_bytes(b"something else entirely " * 50)
    graph.backend(activate=False)
    assert not change(graph, CONFIGURE)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert (folder / "keyframes.db").read_bytes().startswith(b"something else")


@pytest.mark.parametrize(
    "transition, broken", [(CONFIGURE, "Core"), (ACTIVATE, "StatusPublisher")]
)
def test_an_error_is_explained_and_the_node_can_be_configured_again(
    graph, monkeypatch, transition, broken
):
    backend = graph.backend(activate=False)
    said = []
    monkeypatch.setattr(backend.get_logger(), "error", lambda text, **options: said.append(text))
    with monkeypatch.context() as patch:
        patch.setattr(node, broken, lambda *arguments: 1 / 0)
        assert change(graph, CONFIGURE) == (transition != CONFIGURE)
        if transition == ACTIVATE:
            assert not change(graph, ACTIVATE)
    assert any("ZeroDivisionError: division by zero" in text for text in said)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED and backend._core is None
    assert change(graph, CONFIGURE) and change(graph, ACTIVATE)
    until(lambda: backend._core.worker.ready)
    topics = sorted(publisher.topic for publisher in backend.publishers)
    assert change(graph, DEACTIVATE) and change(graph, ACTIVATE)
    # nothing was left behind
    assert sorted(publisher.topic for publisher in backend.publishers) == topics
