"""Service load_map: a saved map in place of what is held, or merged into it; refused with the
reason and without a trace.
"""

from dataclasses import replace

import numpy as np
import pytest
from fake_backend import SHIFT
from places import at
from random_keyframes import make_keyframe
from ros_graph import until
from sensor_msgs.msg import PointCloud2
from vggt3_ros.msg import KeyframePoses, Status
from vggt3_ros.srv import LoadMap, Localize, Reset, SaveMap, SetMode

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_transform

REPLACE, MERGE, CODES = LoadMap.Request.REPLACE, LoadMap.Request.MERGE, LoadMap.Response
HOUR = 3600 * 10**9


def load(graph, mode=REPLACE, name="office"):
    return graph.call(LoadMap, "load_map", LoadMap.Request(name=name, mode=mode))


def save(graph, name, keyframes):
    """By a node that is gone afterwards."""
    backend = graph.backend(store=str(graph.folder / f"earlier_{name}"))
    graph.refined(*keyframes, backend=backend)
    assert (
        graph.call(SaveMap, "save_map", SaveMap.Request(name=name)).error_code
        == SaveMap.Response.NONE
    )
    graph.stop(backend)
    return graph.folder / "maps" / name


@pytest.fixture
def saved(graph):
    """A map of six keyframes along x, "office"."""
    return save(graph, "office", [at(n, stamp_ns=10**9 + n) for n in range(6)])


def test_a_loaded_map_replaces_what_is_held_and_serves_localization(graph, saved):
    backend = graph.backend()
    graph.refined(make_keyframe(50), make_keyframe(51), backend=backend)
    poses, clouds, status = (
        graph.listen(KeyframePoses, "keyframe_poses"),
        graph.listen(PointCloud2, "map"),
        graph.status(),
    )
    answer = load(graph)
    assert (answer.error_code, answer.error_msg, answer.keyframes, answer.added) == (
        CODES.NONE,
        "",
        6,
        6,
    )
    assert answer.generation == 2 and answer.t_map_loaded.translation.x == 0
    until(
        lambda: (
            poses
            and list(poses[-1].ids) == list(range(6))
            and poses[-1].generation == 2
            and clouds
        )
    )
    np.testing.assert_allclose(
        to_transform(poses[-1].poses[3].pose), SHIFT @ at(3).T_odom_cam, atol=1e-9
    )
    until(lambda: status and status[-1].mode == Status.LOCALIZATION)
    assert (
        graph.call(Localize, "localize", Localize.Request()).error_code
        == Localize.Response.BAD_IMAGE
    )
    graph.send(make_keyframe(52))
    until(lambda: status[-1].localizations)
    assert backend._core.store.ids() == list(range(6))
    assert graph.call(Reset, "reset", Reset.Request()).keyframes == 6  # and map anew
    graph.send(make_keyframe(53))
    until(lambda: backend._core.store.ids() == [53])
    assert (saved / "keyframes.db").exists()


def test_mapping_goes_on_with_a_loaded_map(graph, saved):
    backend = graph.backend()
    load(graph)
    status, heard = graph.status(), graph.listen(KeyframePoses, "keyframe_poses")
    # ids, clock and frame of another run
    graph.send(at(3, id=0, odometry_x=4.0, stamp_ns=5), odom_frame="another_odom")
    until(lambda: status and status[-1].localized)
    seen = backend._core.map_odom.T_map_odom
    answer = graph.call(SetMode, "set_mode", SetMode.Request(mode=SetMode.Request.MAPPING))
    assert (answer.error_code, answer.error_msg, answer.mode) == (0, "", SetMode.Request.MAPPING)
    np.testing.assert_array_equal(backend._core.map_odom.T_map_odom, seen)
    graph.send(at(4, id=0, odometry_x=4.0, stamp_ns=6), odom_frame="another_odom")
    until(lambda: len(backend._core.store) == 7)
    assert backend._core.store.poses().sessions.tolist() == [0] * 6 + [
        1
    ] and backend._core.store.ids()[-1] == backend._core.store.find(0)
    snapshot = backend._core.load_snapshot(backend._core.refinery.request().result(30))
    until(lambda: heard and len(heard[-1].ids) == 7)
    assert snapshot.places_odometry and 0 in heard[-1].ids and len(set(heard[-1].ids)) == 7
    np.testing.assert_allclose(backend._core.map_odom.T_map_odom, snapshot.T_map_odom, atol=1e-9)


def test_after_a_restart_a_loaded_map_is_still_only_localized_in(graph, saved):
    first = graph.backend()
    load(graph)
    graph.stop(first)
    backend = graph.backend()
    status = graph.status()
    until(lambda: status and status[-1].mode == Status.LOCALIZATION)
    graph.send(make_keyframe(52))
    until(lambda: status[-1].localizations)
    assert len(backend._core.store) == 6


def test_merging_adds_the_keyframes_where_localization_finds_them(graph, saved):
    backend = graph.backend()
    graph.refined(
        *(at(n, stamp_ns=HOUR + n, odometry_x=5.0) for n in (10, 11, 12)), backend=backend
    )
    answer = load(graph, MERGE)
    assert (answer.error_code, answer.error_msg, answer.keyframes, answer.added) == (
        CODES.NONE,
        "",
        9,
        6,
    )
    # The fake back end's map has its first keyframe 1 m along x from where odometry says, and sees
    # images where they were taken.
    assert answer.t_map_loaded.translation.x == pytest.approx(
        -1.0
    ) and answer.t_map_loaded.rotation.w == pytest.approx(1.0)
    snapshot = backend._core.load_snapshot(backend._core.refinery.request().result(30))
    assert len(snapshot) == 9 and list(snapshot.keyframe_ids[-3:]) == [10, 11, 12]
    np.testing.assert_allclose(snapshot.T_odom_cam[4], se3.exp([0.4, 0, 0, 0, 0, 0]), atol=1e-9)
    graph.send(at(13, stamp_ns=HOUR + 13))
    until(lambda: len(backend._core.store) == 10)


def test_what_cannot_be_loaded_is_refused_with_the_reason_and_changes_nothing(graph, saved):
    backend = graph.backend()
    graph.refined(
        make_keyframe(50, stamp_ns=HOUR), make_keyframe(51, stamp_ns=HOUR + 1), backend=backend
    )
    (graph.folder / "maps" / "damaged").mkdir()
    (graph.folder / "maps" / "damaged" / "keyframes.db").write_bytes(
        b"something else entirely" * 50
    )
    (graph.folder / "maps" / "link").symlink_to(graph.folder / "earlier_office")
    for name, mode, code, text in (
        ("../earlier", REPLACE, CODES.BAD_NAME, "name must be"),
        ("", REPLACE, CODES.BAD_NAME, "name must be"),
        ("office", 9, CODES.BAD_NAME, "mode must be"),
        ("nowhere", REPLACE, CODES.NOT_FOUND, "no saved map"),
        ("link", REPLACE, CODES.NOT_FOUND, "link out of"),
        ("damaged", REPLACE, CODES.UNREADABLE, "damaged/keyframes.db"),
        ("damaged", MERGE, CODES.UNREADABLE, "damaged/keyframes.db"),
    ):
        answer = load(graph, mode, name)
        assert answer.error_code == code and text in answer.error_msg, (name, answer.error_msg)
    assert backend._core.store.ids() == [50, 51] and not backend._core.localizing


def test_merging_needs_a_map_the_same_place_and_keyframes_not_held(graph, saved):
    save(
        graph,
        "cellar",
        [
            replace(frame, image=0 * frame.image)
            for frame in (at(n, stamp_ns=10**9 + n) for n in range(6))
        ],
    )
    backend = graph.backend()
    graph.send(make_keyframe(50, stamp_ns=HOUR))
    until(lambda: len(backend._core.store) == 1)
    assert load(graph, MERGE).error_code == CODES.NO_MAP
    graph.refined(make_keyframe(51, stamp_ns=HOUR + 1), backend=backend)
    answer = load(graph, MERGE, "cellar")
    assert answer.error_code == CODES.NOT_LOCALIZED and "0 of 6 views" in answer.error_msg
    assert load(graph, MERGE).error_code == CODES.NONE
    answer = load(graph, MERGE)
    assert answer.error_code == CODES.CONFLICT and "already contains" in answer.error_msg
    assert len(backend._core.store) == 8
