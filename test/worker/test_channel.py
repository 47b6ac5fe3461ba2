"""Messages from the worker to the node: intact from many threads, errors with a code, and an exit
without the node.
"""

import threading

import pytest
from worker_pipe import Pipe

from vggt3_ros.system.stages import Cancelled
from vggt3_ros.worker import channel as module


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_an_event_arrives_with_its_values_and_payload(pipe):
    pipe.channel.send(7, "progress", b"bytes", phase="loops", fraction=0.5)
    pipe.channel.send(None, "alive")
    assert pipe.receive() == (
        {"request": 7, "event": "progress", "phase": "loops", "fraction": 0.5},
        b"bytes",
    )
    assert pipe.receive() == ({"request": None, "event": "alive"}, b"")


def test_messages_of_many_threads_arrive_whole(pipe):
    payload = bytes(200_000)  # more than a socket takes at once
    threads = [
        threading.Thread(target=pipe.channel.send, args=(number, "result", payload))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    arrived = [pipe.receive() for _ in threads]
    for thread in threads:
        thread.join()
    assert sorted(header["request"] for header, _ in arrived) == list(range(8))
    assert all(got == payload for _, got in arrived)


def test_what_a_function_returns_is_the_result(pipe):
    assert pipe.channel.answer(3, lambda a, b: {"sum": a + b}, 1, 2)
    assert pipe.receive()[0] == {"request": 3, "event": "result", "sum": 3}


@pytest.mark.parametrize(
    "error, code, text, logged",
    [
        (Cancelled("cancelled during loops"), "cancelled", "cancelled during loops", False),
        (Cancelled(), "cancelled", "cancelled", False),
        (ValueError("at least 2 keyframes"), "invalid", "at least 2 keyframes", False),
        (RuntimeError("a fault"), "failed", "RuntimeError: a fault", True),
        (KeyError("name"), "failed", "KeyError: 'name'", True),
    ],
)
def test_an_exception_is_an_error_with_its_code(pipe, caplog, error, code, text, logged):
    def fails():
        raise error

    assert not pipe.channel.answer(3, fails)
    assert pipe.receive()[0] == {"request": 3, "event": "error", "code": code, "message": text}
    assert ("Traceback" in caplog.text) == logged


def test_without_the_node_the_process_ends(pipe, monkeypatch):
    class Ended(Exception):
        pass

    def end(status):
        raise Ended(status)

    monkeypatch.setattr(module.os, "_exit", end)
    pipe.hang_up()
    with pytest.raises(Ended, match="0"):
        for _ in range(2):
            pipe.channel.send(None, "alive")
