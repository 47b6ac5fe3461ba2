"""A disk that is full, or read-only, under the node: it says so, stays active, loses and
overwrites nothing, and goes on when there is room.
"""

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from disks import FileLimit, TinyDisk, read_only
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from random_keyframes import assert_same, make_keyframe
from rclpy.lifecycle import TransitionCallbackReturn
from ros_graph import until
from vggt3_ros.srv import GetTrajectory, SaveMap

from vggt3_ros.ros import qos
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot


@pytest.fixture(params=[TinyDisk, FileLimit], ids=["full", "limit"])
def disk(request, graph, tmp_path):
    disk = request.param(tmp_path / "disk", 3000)
    yield disk
    disk.free()
    graph.close()
    disk.close()


def stored_ids(graph):
    return list(
        graph.call(
            GetTrajectory,
            "get_trajectory",
            GetTrajectory.Request(source=GetTrajectory.Request.ODOMETRY),
        ).ids
    )


def test_keyframes_are_refused_with_the_reason_while_the_disk_is_full_and_taken_again_after(
    graph, disk
):
    backend = graph.backend(store=str(disk.folder / "store"))
    status, diagnostics = graph.status(), graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)
    graph.heard_by_all(backend, "diagnostics")
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    disk.fill()
    late = [make_keyframe(id) for id in range(2, 6)]
    graph.send(*late)
    until(lambda: status and status[-1].refused == 4 and status[-1].error_msg)
    for text in (status[-1].error_msg, status[-1].last_refusal):
        assert str(disk.folder / "store") in text and "full" in text
    until(
        lambda: any(
            entry.level == DiagnosticStatus.ERROR
            and "cannot store keyframes" in entry.message
            and "full" in entry.message
            for message in diagnostics
            for entry in message.status
        )
    )
    assert (
        graph.call(GetState, "/vggt3_ros/get_state", GetState.Request()).current_state.id
        == State.PRIMARY_STATE_ACTIVE
    )
    assert stored_ids(graph) == [0, 1]
    assert_same(backend._core.store.get(1), make_keyframe(1))
    assert backend._core.snapshot.generation == 1

    disk.free()
    graph.send(*late)  # as a front end does that had no acknowledgement
    until(lambda: stored_ids(graph) == list(range(6)))
    until(lambda: not status[-1].error_msg)
    assert len(backend._core.load_snapshot(backend._core.refinery.request().result(30))) == 6
    graph.stop(backend)
    with KeyframeStore(disk.folder / "store", read_only=True) as store:
        for id in range(6):
            assert_same(store.get(id), make_keyframe(id))


def test_a_refinement_that_cannot_be_written_fails_with_the_reason_and_the_last_one_stays(
    graph, tmp_path
):
    disk = TinyDisk(tmp_path / "disk", 3000)
    try:
        backend = graph.backend(store=str(disk.folder / "store"))
        status = graph.status()
        graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
        room = disk.room()
        disk.fill()
        wish = backend._core.refinery.request()
        until(wish.done)
        assert "space" in str(wish.exception())
        until(lambda: "space" in status[-1].error_msg)
        # nothing half-written takes room
        assert [path.name for path in backend._core.store.snapshots.iterdir()] == ["000001"]
        disk.free()
        assert disk.room() >= room - 4096
        assert (
            backend._core.load_snapshot(backend._core.refinery.request().result(30)).generation
            == 2
        )
        until(lambda: not status[-1].error_msg)
    finally:
        graph.close()
        disk.close()


def test_a_map_that_cannot_be_saved_leaves_nothing_behind(graph, tmp_path):
    disk = TinyDisk(tmp_path / "disk", 3000)
    try:
        backend = graph.backend(map_folder=str(disk.folder / "maps"))
        graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
        save = lambda: graph.call(SaveMap, "save_map", SaveMap.Request(name="office"))
        answers = []
        for room in range(0, 400_000, 16_384):  # whatever it is at when room runs out
            disk.fill(but=room)
            answers.append(save())
            disk.free()
            if answers[-1].error_code == SaveMap.Response.NONE:
                break
            assert answers[-1].error_code == SaveMap.Response.WRITE_FAILED
            assert (
                str(disk.folder / "maps" / "office") in answers[-1].error_msg
                and "map_folder" in answers[-1].error_msg
            )
            assert not list((disk.folder / "maps").iterdir())
        # the database, and the files after it
        assert len(answers) > 4 and len({answer.error_msg for answer in answers}) > 2
        with KeyframeStore(disk.folder / "maps" / "office", read_only=True) as store:
            assert_same(store.get(1), make_keyframe(1))
            assert len(Snapshot.load(store.snapshots / "000001")) == 2
    finally:
        graph.close()
        disk.close()


def test_a_map_folder_that_is_read_only_is_named(graph, tmp_path):
    backend = graph.backend()
    graph.send(make_keyframe(0))
    until(lambda: len(backend._core.store) == 1)
    (tmp_path / "maps").mkdir()
    with read_only(tmp_path / "maps"):
        answer = graph.call(SaveMap, "save_map", SaveMap.Request(name="office"))
    assert answer.error_code == SaveMap.Response.WRITE_FAILED
    assert (
        str(tmp_path / "maps" / "office") in answer.error_msg
        and "Check permissions" in answer.error_msg
    )
    assert not list((tmp_path / "maps").iterdir())
    assert (
        graph.call(SaveMap, "save_map", SaveMap.Request(name="office")).error_code
        == SaveMap.Response.NONE
    )


@pytest.mark.parametrize("kind", ["read-only", "new, below a read-only one", "a file"])
def test_a_store_that_cannot_be_written_to_is_named_at_the_start_with_what_to_do(
    graph, tmp_path, capfd, kind
):
    folder = tmp_path / "disk"
    with KeyframeStore(folder) as store:
        store.put(make_keyframe(0))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    name = {
        "read-only": folder,
        "new, below a read-only one": folder / "new",
        "a file": folder / "keyframes.db",
    }[kind]
    with read_only(folder):
        backend = graph.backend(activate=False, store=str(name))
        assert backend.trigger_configure() == TransitionCallbackReturn.FAILURE
    said = until(lambda: capfd.readouterr().err)
    assert str(name) in said and "choose another folder" in said and "Traceback" not in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    if kind == "read-only":
        # once it can be written to
        assert backend.trigger_configure() == TransitionCallbackReturn.SUCCESS
