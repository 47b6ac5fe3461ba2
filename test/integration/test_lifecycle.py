"""Lifecycle: transitions from outside, and errors as states with a text."""

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from random_keyframes import make_keyframe
from ros_graph import until


def change(graph, transition):
    return graph.call(ChangeState, "/vggt3_ros/change_state", ChangeState.Request(transition=Transition(id=transition)), 30).success


def state(graph):
    return graph.ask(GetState, "/vggt3_ros/get_state", GetState.Request()).current_state.id


def test_a_manager_takes_it_through_its_states_and_the_store_stays(graph):
    backend = graph.backend(activate=False)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert change(graph, Transition.TRANSITION_CONFIGURE) and state(graph) == State.PRIMARY_STATE_INACTIVE
    for _ in range(2):
        assert change(graph, Transition.TRANSITION_ACTIVATE) and state(graph) == State.PRIMARY_STATE_ACTIVE
        until(lambda: graph.keyframes.get_subscription_count())
        before = len(backend._core.store)
        graph.send(make_keyframe(before))
        until(lambda: len(backend._core.store) == before + 1)
        assert change(graph, Transition.TRANSITION_DEACTIVATE)
        until(lambda: not graph.keyframes.get_subscription_count())
    worker = backend._core.worker._process
    assert change(graph, Transition.TRANSITION_CLEANUP) and state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert worker.poll() is not None  # its memory and the device are free
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    assert len(backend._core.store) == 2


def test_a_store_that_cannot_be_used_fails_the_configuration(graph):
    folder = graph.folder / "store"
    folder.mkdir()
    (folder / "keyframes.db").write_bytes(b"something else entirely " * 50)
    graph.backend(activate=False)
    assert not change(graph, Transition.TRANSITION_CONFIGURE)
    assert state(graph) == State.PRIMARY_STATE_UNCONFIGURED
    assert (folder / "keyframes.db").read_bytes().startswith(b"something else")
