"""The worker process and its client: answers, cancel, localizing while refining, and life after death."""

import os
import signal
import socket
import struct
import threading
import time

import numpy as np
import pytest
from random_keyframes import CAMERA, make_keyframe

from vggt3_ros import frames
from vggt3_ros.config import BackendConfig
from vggt3_ros.mapping.snapshot import Snapshot
from vggt3_ros.mapping.store import KeyframeStore
from vggt3_ros.worker_client import WorkerClient, WorkerError

IMAGE = np.full((CAMERA.height, CAMERA.width, 3), 200, np.uint8)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__) + ":" + os.environ.get("PYTHONPATH", ""))
    with KeyframeStore(tmp_path) as store:
        for id in range(3):
            store.put(make_keyframe(id))
        yield store


@pytest.fixture
def start(store):
    clients = []

    def start(steps=1, **options):
        config = BackendConfig.from_flat({"memory.steps": steps, "device": options.pop("device", "auto")})
        clients.append(WorkerClient(store.folder, config, backend="fake_backend:Backend", **options).start())
        until(lambda: clients[-1].pid)
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def until(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


def test_refines_reports_progress_and_announces_the_snapshot(store, start):
    announced, progress = [], []
    client = start(steps=30, on_snapshot=announced.append)
    result = client.refine(lambda phase, fraction: progress.append((phase, fraction))).result(20)
    assert result == {"generation": 1} and announced == [1]
    assert len(progress) >= 2 and progress[0][0] == "memory" and progress[-1][1] > 0.3
    assert Snapshot.load(store.snapshots / "000001").keyframe_ids.tolist() == [0, 1, 2]


def test_nothing_to_refine_is_an_answer(store, start):
    store.clear()
    with pytest.raises(WorkerError, match="at least 2 keyframes") as error:
        start().refine().result(20)
    assert error.value.code == "invalid"


def test_localizes_while_a_refinement_runs_and_cancel_ends_it(start):
    client = start()
    client.refine().result(20)
    client.configure(BackendConfig.from_flat({"memory.steps": 10_000})).result(20)
    running = threading.Event()
    refinement = client.refine(lambda phase, fraction: running.set())
    assert running.wait(5)
    begin = time.monotonic()
    found = client.localize(IMAGE, CAMERA).result(5)
    assert time.monotonic() - begin < 0.5 and not refinement.done()
    assert found["code"] == "ok" and np.reshape(found["T_map_cam"], (4, 4))[0, 3] == 1.0 and found["generation"] == 1
    client.cancel(refinement)
    with pytest.raises(WorkerError) as error:
        refinement.result(2)
    assert error.value.code == "cancelled"


def test_a_refinement_gives_way_to_a_localization(start):
    client = start(steps=150)  # 1.5 s
    fractions = []
    refinement = client.refine(lambda phase, fraction: fractions.append(fraction))
    until(lambda: fractions and fractions[-1] > 0.1)
    slow = IMAGE.copy()
    slow[0, 0] = (4, 5, 6)
    before = fractions[-1]
    client.localize(slow, CAMERA).result(5)  # 0.3 s, in which 30 steps would have been made
    assert fractions[-1] - before < 0.12
    refinement.result(20)


def test_localizing_without_a_map_or_on_a_blank_image_is_an_answer(start):
    client = start()
    assert client.localize(IMAGE, CAMERA).result(20)["code"] == "no_map"
    client.refine().result(20)
    blank = client.localize(0 * IMAGE, CAMERA).result(20)
    assert (blank["code"], blank["T_map_cam"], blank["message"]) == ("not_localized", None, "the image shows nothing")


def test_idle_time_improves_the_memory(start):
    announced = []
    client = start(distil_seconds=30.0, on_snapshot=announced.append)
    client.refine().result(20)
    until(lambda: announced == [1, 2])


def test_a_killed_worker_is_replaced_and_the_next_refinement_covers_everything(store, start):
    client = start(steps=1000)
    started = threading.Event()
    lost = client.refine(lambda *_: started.set())
    assert started.wait(20)
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="SIGKILL") as error:
        lost.result(5)
    assert error.value.code == "died"
    until(lambda: client.ready)
    assert client.restarts == 1
    client.configure(BackendConfig.from_flat({"memory.steps": 1})).result(20)
    store.put(make_keyframe(9))
    client.refine().result(20)
    assert 9 in Snapshot.load(store.snapshots / "000001").keyframe_ids


def test_a_crash_in_native_code_fails_the_request_that_waits_for_it(start):
    client = start()
    client.refine().result(20)
    bomb = IMAGE.copy()
    bomb[0, 0] = (1, 2, 3)
    with pytest.raises(WorkerError, match="exit status 7"):
        client.localize(bomb, CAMERA).result(5)


def test_a_hanging_worker_is_replaced(start):
    client = start(hang_seconds=6.0)  # starting up must not take longer than that, also on a busy machine
    until(lambda: client.ready, 30)
    first = client.pid
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(WorkerError, match="no sign of life"):
        client.localize(IMAGE, CAMERA).result(30)
    until(lambda: client.ready and client.pid != first, 30)


def test_a_back_end_that_cannot_start_says_why(start):
    client = start(device="cuda:99")
    with pytest.raises(WorkerError, match="cuda:99 does not exist"):
        client.localize(IMAGE, CAMERA).result(20)
    with pytest.raises(WorkerError, match="cuda:99 does not exist"):
        client.refine().result(20)
    until(lambda: "cuda:99" in client.fault)


def test_the_worker_ends_with_its_owner(start):
    client = start(steps=10_000)
    started = threading.Event()
    client.refine(lambda *_: started.set())
    assert started.wait(20)
    process = client._process
    client.close()
    assert process.poll() is not None


def test_reset_forgets_keyframes_and_map(store, start):
    client = start()
    client.refine().result(20)
    assert client.reset().result(20) == {"keyframes": 3}
    assert len(store) == 0 and client.localize(IMAGE, CAMERA).result(20)["code"] == "no_map"


def test_the_client_loads_neither_torch_nor_ros(start):
    import subprocess
    import sys

    code = "import sys, vggt3_ros.worker_client; print(sorted({'torch', 'rclpy', 'open3d'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("data, message", [
    (struct.pack(">IQ", 2**31, 0), "announces"), (struct.pack(">IQ", 2, 2**60) + b"{}", "announces"),
    (struct.pack(">IQ", 2, 0) + b"[]", "object"), (struct.pack(">IQ", 3, 0) + b"\xff{}", "JSON")])
def test_frames_that_make_no_sense_are_refused_before_memory_is_taken(data, message):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        with pytest.raises(frames.FrameError, match=message):
            frames.receive(theirs)


def test_a_frame_cut_short_is_an_end_not_a_hang():
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(struct.pack(">IQ", 2, 100) + b"{}half")
        with pytest.raises(EOFError):
            frames.receive(theirs)
