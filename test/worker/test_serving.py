"""The worker process at the level of frames: unknown requests, signs of life, and its exit with
the connection.
"""

from dataclasses import asdict

import numpy as np
import pytest
from folders import python_path
from random_keyframes import CAMERA, make_keyframe

from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.system import wire
from vggt3_ros.system.child_process import ChildProcess
from vggt3_ros.worker import serving


class Worker:
    """A worker with the fake back end; ask(command, ...) -> its answer."""

    def __init__(self, folder):
        self.child = ChildProcess(
            "vggt3_ros.worker", "--store", folder, "--backend", "fake_backend:Backend"
        )
        self.child.connection.settimeout(60.0)
        self._number = 0

    def receive(self):
        return wire.receive(self.child.connection)[0]

    def ask(self, command, payload=b"", **values):
        self._number += 1
        header = {"request": self._number, "command": command, **values}
        wire.send(self.child.connection, header, payload)
        while True:
            answer = self.receive()
            if answer["request"] == self._number and answer["event"] != "progress":
                return answer


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with KeyframeStore(folder) as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        for id in range(2):
            store.put(make_keyframe(id))
        worker = Worker(folder)
        yield worker
        worker.child.close()


def test_an_unknown_command_is_refused_and_named(worker):
    answer = worker.ask("explode")
    assert answer["event"] == "error" and answer["code"] == "invalid"
    assert "unknown command 'explode'" in answer["message"]
    assert worker.ask(None)["code"] == "invalid"


def test_it_says_that_it_is_alive_what_it_uses_and_that_it_is_idle(worker):
    worker.ask("configure", config={"memory.steps": 1})
    while (event := worker.receive())["event"] != "alive" or not event["running_on"]:
        pass
    assert event["memory_mb"] > 10 and event["device_mb"] == 0 and event["still"] is None
    assert event["running_on"].startswith("auto, float32")


def test_requests_of_both_threads_are_answered(worker):
    assert worker.ask("configure", config={"memory.steps": 1})["event"] == "result"
    refined = worker.ask("refine")
    assert refined["event"] == "result"
    image = np.full((CAMERA.height, CAMERA.width, 3), 200, np.uint8)
    found = worker.ask("localize", image.tobytes(), camera=asdict(CAMERA), hint=None)
    assert found["code"] == "ok" and found["generation"] == refined["generation"]
    assert worker.ask("cancel", target=99)["event"] == "result"


def test_it_ends_when_the_connection_is_closed(worker):
    worker.child.hang_up()
    assert worker.child.ends_within(60) and worker.child.end == "exit status 0"


def test_a_thread_that_fails_ends_the_process(monkeypatch, caplog):
    ended = []
    monkeypatch.setattr(serving.os, "_exit", ended.append)
    serving._or_end("jobs", lambda: 1 / 0)
    assert ended == [serving.THREAD_FAILED]
    assert "thread jobs failed" in caplog.text and "ZeroDivisionError" in caplog.text
