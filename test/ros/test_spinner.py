"""A node that is served by a thread, and ends in order."""

import threading
import time

import pytest
import ros_domain  # noqa: F401  before rclpy

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402

from vggt3_ros.ros import spinner  # noqa: E402
from vggt3_ros.ros.spinner import Spinner  # noqa: E402


@pytest.fixture
def node():
    context = Context()
    rclpy.init(context=context)
    node = Node("spun", context=context)
    yield node
    if context.ok():
        rclpy.shutdown(context=context)


def wait(condition, seconds=30.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_callbacks_run_in_another_thread_until_it_is_closed(node):
    threads = set()
    node.create_timer(0.01, lambda: threads.add(threading.current_thread().name))
    served = Spinner(node)
    wait(lambda: threads)
    assert threads == {"spun spins"}
    served.close()
    threads.clear()
    time.sleep(0.1)
    assert not threads and not any(t.name == "spun spins" for t in threading.enumerate())


def test_a_callback_that_fails_is_told_of_and_the_next_one_runs(node):
    calls, failed = [], []

    def work():
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyError("a bug")

    node.create_timer(0.01, work)
    served = Spinner(node, lambda: failed.append(True))
    wait(lambda: len(calls) > 4)
    assert failed == [True]
    served.close()


def test_closing_waits_for_the_callback_that_runs(node):
    begun, ended = threading.Event(), []

    def work():
        begun.set()
        time.sleep(0.3)
        ended.append(True)

    node.create_timer(0.01, work)
    served = Spinner(node)
    assert begun.wait(30)
    served.close()
    assert ended


def test_a_callback_that_does_not_return_is_an_error_not_a_hang(node, monkeypatch):
    monkeypatch.setattr(spinner, "END_SECONDS", 0.2)
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(30)

    node.create_timer(0.01, work)
    served = Spinner(node)
    assert begun.wait(30)
    with pytest.raises(RuntimeError, match="a callback of node spun does not return"):
        served.close()
    go_on.set()
    monkeypatch.setattr(spinner, "END_SECONDS", 30.0)
    served.close()
