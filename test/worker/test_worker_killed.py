"""The worker with the real back end, killed in every phase: nothing is left behind, and the next
refinement covers everything.
"""

import os
import signal

import pytest
from refinements import PHASES, Refinement
from waiting import gone, until

from vggt3_ros.config import BackendConfig
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.system import memory_use
from vggt3_ros.worker import client as worker_client
from vggt3_ros.worker.client import WorkerClient, WorkerError
from vggt3_ros.worker.suspects import Suspects

PATIENCE = 90.0  # seconds in which a worker comes back
KEYFRAMES = 12
QUICK = BackendConfig.from_flat({"device": "cpu", "map.voxel_size": 0.05})


@pytest.fixture
def store(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_client, "FIRST_RESTART_SECONDS", 0.2)
    monkeypatch.setattr(worker_client, "LONGEST_RESTART_SECONDS", 0.2)
    with KeyframeStore(tmp_path / "store") as store:
        for keyframe in rendered.keyframes[:KEYFRAMES]:
            store.put(keyframe)
        yield store


@pytest.fixture
def client(store):
    client = WorkerClient(
        store.folder, QUICK, distil_seconds=60.0, suspects=Suspects(store)
    ).start()
    yield client
    client.close()


def kill(client):
    """SIGKILL, and until it is back; with what it started."""
    pid, restarts = client.pid, client.restarts
    started = memory_use.children(pid)
    os.kill(pid, signal.SIGKILL)
    # a fusion in the middle of a computation, too
    until(lambda: gone(pid) and all(map(gone, started)), 5.0)
    until(lambda: client.restarts == restarts + 1 and client.ready, PATIENCE)
    return started


def test_killed_in_every_phase_it_comes_back_and_the_next_refinement_covers_all_keyframes(
    client, store, rendered
):
    until(lambda: client.pid, PATIENCE)
    kill(client)  # while it starts
    ended_with_it = 0
    for phase in PHASES:
        refinement = Refinement(client)
        refinement.wait_for(phase)
        ended_with_it += len(kill(client))
        with pytest.raises(WorkerError, match="SIGKILL") as error:
            refinement.future.result(5)
        assert error.value.code == "died"
    assert ended_with_it >= 4  # the processes that fuse
    generation = client.refine().result(120)["generation"]
    assert (
        Snapshot.load(store.snapshots / f"{generation:06d}").keyframe_ids.tolist() == store.ids()
    )

    until(lambda: client._hand.get("phase") == "distil", PATIENCE)
    kill(client)
    asked = client.localize(rendered.queries[0], rendered.camera)
    until(lambda: client._hand.get("query") or asked.done(), PATIENCE)
    kill(client)
    assert isinstance(asked.exception(5), (WorkerError, type(None)))
    assert client.localize(rendered.keyframes[3].image, rendered.camera).result(60)["code"] == "ok"
    store.put(rendered.keyframes[KEYFRAMES])
    generation = client.refine().result(120)["generation"]
    assert (
        Snapshot.load(store.snapshots / f"{generation:06d}").keyframe_ids.tolist() == store.ids()
    )
    assert not store.aside()


def test_a_keyframe_whose_data_is_damaged_is_set_aside_and_the_others_are_refined(client, store):
    with store.database.writing() as connection:
        connection.execute("UPDATE images SET image=x'00112233' WHERE id=?", (store.ids()[5],))
    until(lambda: client.ready, PATIENCE)
    generation = client.refine().result(120)["generation"]
    ids = store.ids()
    assert (
        Snapshot.load(store.snapshots / f"{generation:06d}").keyframe_ids.tolist()
        == ids[:5] + ids[6:]
    )
    assert "cannot be read" in store.aside()[ids[5]] and client.restarts == 0
    store.set_aside(ids[8], "it ended the worker three times")
    generation = client.refine().result(120)["generation"]
    assert Snapshot.load(store.snapshots / f"{generation:06d}").keyframe_ids.tolist() == [
        i for i in ids if i not in store.aside()
    ]


def test_a_worker_ends_with_its_owner_however_that_ends(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, time; from vggt3_ros.worker.client import WorkerClient; from vggt3_ros.config import BackendConfig\n"
        "client = WorkerClient(sys.argv[1], BackendConfig()).start()\nwhile not client.pid: time.sleep(0.01)\n"
        "time.sleep(1.0); print(client.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        worker = int(owner.stdout.readline())
        assert not gone(worker)
        owner.kill()
    until(lambda: gone(worker), 5.0)
