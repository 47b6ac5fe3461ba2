"""The worker process and its client: answers, cancelling, localizing while refining, restarts."""

import os
import signal
import subprocess
import threading
import time

import numpy as np
import psutil
import pytest
from fake_backend import DEADLY, LARGE, POISON, STUCK
from folders import python_path
from random_keyframes import CAMERA, make_keyframe
from waiting import until

from vggt3_ros.config import BackendConfig
from vggt3_ros.store.keyframes import FIRST_ID, KeyframeStore
from vggt3_ros.store.sessions import ARRIVING
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.system import child_process
from vggt3_ros.worker.client import WorkerClient, WorkerError
from vggt3_ros.worker.suspects import Suspects

IMAGE = np.full((CAMERA.height, CAMERA.width, 3), 200, np.uint8)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", python_path())
    with KeyframeStore(tmp_path) as store:
        for id in range(3):
            store.put(make_keyframe(id))
        yield store


@pytest.fixture
def start(store):
    clients = []

    def start(steps=1, **options):
        config = BackendConfig.from_flat(
            {
                "memory.steps": steps,
                "device": options.pop("device", "auto"),
                "resources.memory_limit_mb": options.pop("limit", 0),
            }
        )
        clients.append(
            WorkerClient(store.folder, config, backend="fake_backend:Backend", **options).start()
        )
        until(lambda: clients[-1].pid)
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def test_the_first_request_comes_after_the_configuration(start, monkeypatch):
    configuration = WorkerClient._configuration
    monkeypatch.setattr(
        WorkerClient, "_configuration", lambda client: (time.sleep(0.3), configuration(client))[1]
    )
    assert start().refine().result(20)["generation"] == 1


def test_a_client_closed_while_its_worker_is_being_started_leaves_none(store, monkeypatch):
    spawning, closing, started = threading.Event(), threading.Event(), []

    def slow(*arguments, **options):
        started.append(real(*arguments, **options))
        spawning.set()
        assert closing.wait(10)
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr(child_process.subprocess, "Popen", slow)
    client = WorkerClient(store.folder, BackendConfig(), backend="fake_backend:Backend").start()
    assert spawning.wait(10)
    threading.Timer(0.2, closing.set).start()  # once close() has begun
    client.close()
    assert (
        not client._supervisor.is_alive() and started[0].poll() is not None and len(started) == 1
    )


def test_refines_reports_progress_and_announces_the_snapshot(store, start):
    announced, progress = [], []
    client = start(steps=30, on_snapshot=announced.append)
    result = client.refine(lambda phase, fraction: progress.append((phase, fraction))).result(20)
    assert result == {"generation": 1} and announced == [1]
    assert len(progress) >= 2 and progress[0][0] == "memory" and progress[-1][1] > 0.3
    assert Snapshot.load(store.snapshots / "000001").keyframe_ids.tolist() == [0, 1, 2]


def test_too_few_keyframes_are_an_error_that_says_so(store, start):
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
    assert (
        found["code"] == "ok"
        and np.reshape(found["T_map_cam"], (4, 4))[0, 3] == 1.0
        and found["generation"] == 1
    )
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
    assert (blank["code"], blank["T_map_cam"], blank["message"]) == (
        "not_localized",
        None,
        "the image shows nothing",
    )


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
    # starting up must not take longer than that, also on a busy machine
    client = start(hang_seconds=6.0)
    until(lambda: client.ready, 30)
    first = client.pid
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(WorkerError, match="no sign of life"):
        client.localize(IMAGE, CAMERA).result(30)
    until(lambda: client.ready and client.pid != first, 30)


def test_a_refinement_without_progress_is_killed_although_the_process_is_alive(store, start):
    client = start(hang_seconds=6.0, suspects=Suspects(store))
    client.refine().result(30)
    store.put(make_keyframe(STUCK))
    with pytest.raises(WorkerError, match="made no progress with memory for [67] s") as error:
        client.refine().result(40)
    assert error.value.code == "died"
    until(lambda: client.ready, 30)
    assert client.localize(IMAGE, CAMERA).result(20)["generation"] == 1


def test_a_localization_that_never_ends_is_killed(start):
    client = start(hang_seconds=6.0)
    client.refine().result(30)
    never = IMAGE.copy()
    never[0, 0] = (9, 9, 9)
    with pytest.raises(WorkerError, match="made no progress with localize"):
        client.localize(never, CAMERA).result(40)


def test_a_keyframe_that_kills_the_worker_three_times_is_set_aside_and_named(store, start):
    client = start(suspects=Suspects(store))
    store.put(make_keyframe(DEADLY))
    for _ in range(3):
        until(lambda: client.ready, 30)
        with pytest.raises(WorkerError, match="exit status 7"):
            client.refine().result(20)
    until(lambda: client.ready, 30)
    client.refine().result(20)
    assert Snapshot.load(store.snapshots / "000001").keyframe_ids.tolist() == [0, 1, 2]
    assert "3 times, in memory" in store.aside()[DEADLY] and DEADLY in store


def test_a_keyframe_that_fails_a_refinement_three_times_is_set_aside(store, start):
    client = start(suspects=Suspects(store))
    store.put(make_keyframe(POISON))
    for _ in range(3):
        with pytest.raises(WorkerError, match="this keyframe is poison"):
            client.refine().result(20)
    client.refine().result(20)
    assert client.restarts == 0 and "is poison" in store.aside()[POISON]


def test_an_image_that_kills_the_worker_three_times_is_refused(store, start):
    client = start(suspects=Suspects(store))
    bomb = IMAGE.copy()
    bomb[0, 0] = (1, 2, 3)
    for _ in range(3):
        until(lambda: client.ready, 30)
        with pytest.raises(WorkerError, match="exit status 7"):
            client.localize(bomb, CAMERA).result(20)
    until(lambda: client.ready, 30)
    with pytest.raises(WorkerError, match="killed the worker 3 times") as error:
        client.localize(bomb, CAMERA).result(20)
    assert error.value.code == "set_aside" and client.restarts == 3
    client.refine().result(20)
    assert client.localize(IMAGE, CAMERA).result(20)["code"] == "ok"


def test_a_refinement_that_runs_out_of_memory_goes_on_with_a_smaller_plan_and_says_so(
    store, start
):
    client = start(suspects=Suspects(store))
    store.put(make_keyframe(LARGE))
    assert client.refine().result(20) == {"generation": 1}
    assert LARGE in Snapshot.load(store.snapshots / "000001").keyframe_ids
    assert (
        "out of memory in memory: [enforce fail" in client.memory_msg
        and "150000 slots" in client.memory_msg
    )
    os.kill(client.pid, signal.SIGKILL)
    until(lambda: client.restarts == 1 and client.ready)
    assert client.refine().result(20) == {"generation": 2} and client.restarts == 1


def test_a_worker_beyond_its_memory_limit_shrinks_and_finally_gives_up(store, start):
    client = start(steps=400, limit=20)
    with pytest.raises(WorkerError, match="the limit is 20 .*no smaller plan") as error:
        client.refine().result(60)
    assert (
        error.value.code == "failed"
        and "smaller plan" in client.memory_msg
        and client.restarts == 0
    )


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
    pid = client.pid
    client.close()
    assert client.pid is None and not psutil.pid_exists(pid)


def test_reset_forgets_keyframes_and_map(store, start):
    client = start()
    client.refine().result(20)
    assert client.reset().result(20) == {"keyframes": 3}
    assert len(store) == 0 and client.localize(IMAGE, CAMERA).result(20)["code"] == "no_map"


def test_exceptions_of_callbacks_have_no_effect(store, start, caplog):
    """Not the supervision, not the worker, not the request; others are told, and the log is."""

    def fails(*arguments):
        raise RuntimeError("a listener of somebody else's")

    client = start(steps=30, on_snapshot=fails, on_change=fails)
    until(lambda: client.ready)
    pid = client.pid
    assert client.refine(fails).result(30) == {"generation": 1}
    assert client.localize(IMAGE, CAMERA).result(20)["code"] == "ok" and client.pid == pid
    assert caplog.text.count("a callback failed") >= 3
    os.kill(pid, signal.SIGKILL)
    until(lambda: client.restarts == 1 and client.ready, 60)
    assert client.refine().result(30) == {"generation": 2} and client.restarts == 1


def test_a_future_cannot_be_cancelled_without_the_worker(start):
    client = start()
    future = client.refine()
    assert not future.cancel() and future.result(30) == {"generation": 1}
    assert client.localize(IMAGE, CAMERA).result(20)["code"] == "ok"


def test_a_failure_of_the_supervision_does_not_stop_it(store, start, caplog, monkeypatch):
    client = start(suspects=Suspects(store))
    until(lambda: client.ready)
    first = client.pid
    with monkeypatch.context() as broken:
        for name in ("_handle", "_learn"):
            broken.setattr(client, name, lambda *arguments: 1 / 0)
        lost = client.localize(IMAGE, CAMERA)
        with pytest.raises(WorkerError):
            lost.result(30)
    until(lambda: client.ready and client.pid != first, 60)
    assert (
        client.refine().result(30) == {"generation": 1}
        and caplog.text.count("ZeroDivisionError") >= 2
    )


def test_a_worker_that_sends_an_invalid_message_is_replaced(start, monkeypatch):
    client = start()
    until(lambda: client.ready)
    first, handle = client.pid, client._handle
    with monkeypatch.context() as broken:
        broken.setattr(client, "_handle", lambda header: handle({"event": "alive"}))
        until(lambda: "an invalid message" in client.fault, 30)
    until(lambda: client.ready and client.pid != first, 60)


def test_the_next_worker_removes_what_a_killed_merge_left(store, start):
    with store.database.writing(foreign_keys=False) as connection:
        connection.execute(
            "INSERT INTO images SELECT ?, image, image_kind, depth, depth_kind FROM images WHERE id=1",
            (FIRST_ID + 5,),
        )
        connection.execute("INSERT INTO notes VALUES (?,?)", (ARRIVING, f"[{FIRST_ID}, 9]"))
    client = start()
    until(lambda: client.ready)
    assert store.get_note(ARRIVING) is None and store.database.rows(
        "SELECT id FROM images ORDER BY id"
    ) == [(0,), (1,), (2,)]


def test_a_new_session_keeps_the_map(store, start):
    client = start()
    assert client.begin_session().result(20) == {"session": 1, "generation": 0}
    client.refine().result(20)
    assert client.begin_session().result(20) == {"session": 2, "generation": 1}
    snapshot = Snapshot.of(store, store.snapshots / "000001")
    assert (
        snapshot.keyframe_ids.tolist() == store.ids() == [0, 1, 2] and not snapshot.places_odometry
    )
    store.put(make_keyframe(0, stamp_ns=9))
    assert (
        store.poses().sessions.tolist() == [0, 0, 0, 2]
        and client.localize(IMAGE, CAMERA).result(20)["generation"] == 1
    )


def test_the_client_loads_neither_torch_nor_ros(start):
    import subprocess
    import sys

    code = "import sys, vggt3_ros.worker.client; print(sorted({'torch', 'rclpy', 'open3d'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_what_the_worker_runs_on_is_known_and_logged_once(start, caplog, monkeypatch):
    heard = []
    note = WorkerClient._note_running_on
    monkeypatch.setattr(
        WorkerClient,
        "_note_running_on",
        lambda client, text: (heard.append(text), note(client, text)),
    )
    with caplog.at_level("INFO"):
        client = start()
        expected = "auto, float32, no networks; prior none, any licence"
        until(lambda: heard.count(expected) >= 2)
        assert client.running_on == expected
    assert (
        sum(record.getMessage() == f"the worker runs on {expected}" for record in caplog.records)
        == 1
    )
