"""Service save_map: one folder from which everything can be read; nothing is overwritten, nothing
written elsewhere.
"""

import numpy as np
import pytest
from fake_backend import SHIFT
from random_keyframes import assert_same, make_keyframe
from ros_graph import until
from vggt3_ros.srv import SaveMap

from vggt3_ros.datasets.tum_files import read_trajectory_tum
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot


def save(graph, name):
    return graph.call(SaveMap, "save_map", SaveMap.Request(name=name))


def test_saves_one_folder_from_which_everything_can_be_read(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    graph.send(make_keyframe(2))
    until(lambda: len(backend._core.store) == 3)
    answer = save(graph, "kitchen-1")
    assert (answer.error_code, answer.keyframes, answer.generation) == (
        SaveMap.Response.NONE,
        3,
        1,
    )
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


@pytest.mark.parametrize(
    "name", ["", "..", "../outside", "/etc/passwd", "a/b", ".hidden", "x" * 200]
)
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


def test_a_map_can_be_saved_without_images(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    assert SaveMap.Request(name="x").images  # unless told otherwise
    answer = graph.call(SaveMap, "save_map", SaveMap.Request(name="shipped", images=False))
    assert (answer.error_code, answer.keyframes, answer.generation) == (
        SaveMap.Response.NONE,
        2,
        1,
    )
    with KeyframeStore(graph.folder / "maps" / "shipped", read_only=True) as store:
        assert not store.has_images and store.ids() == [0, 1]
        snapshot = Snapshot.load(store.snapshots / "000001")
        assert snapshot.keyframe_ids.tolist() == [0, 1] and len(snapshot.cloud) == 0
    assert backend._core.store.has_images
