"""Services save_map and reset."""

import numpy as np
import pytest
from fake_backend import SHIFT
from nav_msgs.msg import Path
from random_keyframes import assert_same, make_keyframe
from ros_graph import until
from sensor_msgs.msg import PointCloud2

from vggt3_ros.datasets.tum_files import read_trajectory_tum
from vggt3_ros.mapping.snapshot import Snapshot
from vggt3_ros.mapping.store import KeyframeStore
from vggt3_ros.srv import Reset, SaveMap


def save(graph, name):
    return graph.call(SaveMap, "save_map", SaveMap.Request(name=name))


def test_saves_one_folder_from_which_everything_can_be_read(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    graph.send(make_keyframe(2))
    until(lambda: len(backend._core.store) == 3)
    answer = save(graph, "kitchen-1")
    assert (answer.error_code, answer.keyframes, answer.generation) == (SaveMap.Response.NONE, 3, 1)
    folder = graph.folder / "maps" / "kitchen-1"
    assert answer.folder == str(folder)
    with KeyframeStore(folder, read_only=True) as store:
        assert_same(store.get(2), make_keyframe(2))
        assert Snapshot.load(store.snapshots / "000001").keyframe_ids.tolist() == [0, 1]
    assert (folder / "map.ply").read_bytes().startswith(b"ply\n")
    stamps, poses = read_trajectory_tum(folder / "trajectory.txt")
    assert stamps.tolist() == [make_keyframe(id).stamp_ns for id in (0, 1)]
    np.testing.assert_allclose(poses[1], SHIFT @ make_keyframe(1).T_odom_cam, atol=1e-6)

    again = save(graph, "kitchen-1")
    assert again.error_code == SaveMap.Response.EXISTS and "kitchen-1 exists" in again.error_msg


@pytest.mark.parametrize("name", ["", "..", "../outside", "/etc/passwd", "a/b", ".hidden", "x" * 200])
def test_a_name_that_is_no_plain_folder_name_is_refused(graph, name):
    backend = graph.backend()
    graph.send(make_keyframe(0))
    until(lambda: len(backend._core.store) == 1)
    assert save(graph, name).error_code == SaveMap.Response.BAD_NAME
    assert not (graph.folder / "maps").exists() and not (graph.folder / "outside").exists()


def test_a_folder_that_cannot_be_written_is_reported(graph):
    (graph.folder / "maps").write_text("a file where the folder should be")
    backend = graph.backend()
    assert save(graph, "early").error_code == SaveMap.Response.NOTHING
    graph.send(make_keyframe(0))
    until(lambda: len(backend._core.store) == 1)
    answer = save(graph, "blocked")
    assert answer.error_code == SaveMap.Response.WRITE_FAILED and answer.error_msg


def test_reset_forgets_the_map_everywhere_and_a_new_run_may_reuse_ids_and_stamps(graph):
    backend = graph.backend()
    paths, clouds = graph.listen(Path, "path"), graph.listen(PointCloud2, "map")
    graph.refined(make_keyframe(5), make_keyframe(6), backend=backend)
    until(lambda: paths and clouds)
    answer = graph.call(Reset, "reset", Reset.Request())
    assert (answer.error_code, answer.keyframes) == (Reset.Response.NONE, 2)
    until(lambda: not paths[-1].poses and clouds[-1].width == 0)
    assert np.array_equal(backend._core.map_odom.T_map_odom, np.eye(4))
    graph.send(make_keyframe(5, stamp_ns=1000), odom_frame="other_odom")
    until(lambda: len(backend._core.store) == 1)
    assert backend._core.intake.odom_frame == "other_odom"


def test_reset_ends_a_running_refinement(graph):
    backend = graph.backend(memory__steps=10_000)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    wish = backend._core.refinery.request()
    until(lambda: backend._core.refinery.running)
    assert graph.call(Reset, "reset", Reset.Request()).keyframes == 2
    until(wish.done)
    assert wish.exception().code == "cancelled" and backend._core.snapshot is None
