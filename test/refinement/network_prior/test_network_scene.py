"""The network's view of the keyframes: new ones are queried, many are mapped again, and the next
start goes on from what was saved, unless it is damaged or of another network.
"""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vggt3_ros.config import NetworkConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.network.keyframe_view import NetworkView
from vggt3_ros.network.values import SceneState
from vggt3_ros.refinement.network_prior.network_scene import (
    ARRAYS,
    CHECKED,
    FOLDER,
    KEYFRAMES_FILE,
    OLD_KEYFRAMES_FILE,
    NetworkScene,
)
from vggt3_ros.store.arrays import load_arrays, save_arrays

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)


def pose_of(keyframe_id):
    return se3.exp([0.1 * keyframe_id, 0, 0, 0, 0.01 * keyframe_id, 0])


class Store:
    """Keyframes whose images show their id."""

    def __init__(self, folder):
        self.snapshots = folder

    def camera(self, keyframe_id):
        return CAMERA

    def get(self, keyframe_id):
        image = np.full((48, 64, 3), keyframe_id, np.uint8)
        return SimpleNamespace(image=image, camera=CAMERA, depth=None)


class Viewer:
    """Sees by the image which keyframe it is. Notes what is mapped, what is queried, and of which
    depth is wanted, by keyframe ids.
    """

    pose_convention = "camera_from_world"

    def __init__(self, network="first", keeps_scene=True, convention=pose_convention):
        self.network, self.pose_convention = network, convention
        self.keeps_scene, self.mapped, self.queried, self.depth_of = keeps_scene, [], [], []

    def fingerprint(self):
        return self.network

    def map(self, load, cameras, depth_of, step):
        scene = SceneState(torch.zeros(1, 3, 1, 2, 2), torch.zeros(len(cameras), 4), self.network)
        return self._seen(
            load, cameras, depth_of, step, self.mapped, scene if self.keeps_scene else None
        )

    def place(self, load, cameras, depth_of, step, scene):
        assert scene.network == self.network
        return self._seen(load, cameras, depth_of, step, self.queried, scene)

    def _seen(self, load, cameras, depth_of, step, noted, scene):
        ids = [int(load(k)[0, 0, 0]) for k in range(len(cameras))]
        noted.append(ids)
        self.depth_of.append([ids[k] for k in depth_of])
        step(0.5)
        depth = {k: (np.full((6, 8), ids[k], np.float32), np.ones((6, 8))) for k in depth_of}
        poses = np.array([pose_of(i) for i in ids])
        return NetworkView(poses, np.full(len(ids), 0.9), depth, scene, self.pose_convention)


@pytest.fixture
def scene(tmp_path):
    """scene(viewer, **settings of network) -> a NetworkScene on the same disk each time."""
    return lambda viewer, **config: NetworkScene(viewer, Store(tmp_path), NetworkConfig(**config))


def look(scene, ids, without_depth=()):
    T_odom_cam = np.array([pose_of(i) for i in ids])
    return scene.look(list(ids), set(without_depth), lambda done: None, T_odom_cam)


def assert_in_order(seen, ids):
    assert seen.ids == tuple(ids)
    np.testing.assert_allclose(seen.view.T_network_cam, np.array([pose_of(i) for i in ids]))
    for row, (depth, _) in seen.view.depth.items():
        assert depth[0, 0] == ids[row]


def test_new_keyframes_are_queried_until_they_are_a_share_of_the_mapped(scene):
    viewer = Viewer()
    network = scene(viewer, growth=0.25)
    assert look(network, range(8))[1] and viewer.mapped == [list(range(8))]
    assert look(network, range(8))[1] is False and len(viewer.mapped) == 1
    seen, again = look(network, range(10), without_depth={9})
    assert not again and viewer.queried == [[8, 9]] and viewer.depth_of[-1] == [9]
    assert_in_order(seen, range(10))
    seen, again = look(network, range(11))
    assert again and viewer.mapped[-1] == list(range(11)) and seen.basis == 11


def test_a_keyframe_that_is_gone_makes_it_map_again(scene):
    viewer = Viewer()
    network = scene(viewer)
    look(network, range(8))
    assert look(network, [0, 1, 2, 3, 5, 6, 7])[1] and len(viewer.mapped) == 2


def test_a_network_without_a_scene_maps_whatever_is_new(scene):
    viewer = Viewer(keeps_scene=False)
    network = scene(viewer, growth=10.0)
    look(network, range(8))
    assert look(network, range(9))[1] and len(viewer.mapped) == 2
    network.save()
    assert scene(Viewer(keeps_scene=False)).last is None
    assert network.place(np.zeros((48, 64, 3), np.uint8), CAMERA) is None


def test_rows_follow_the_order_of_the_keyframes(scene):
    viewer = Viewer()
    network = scene(viewer, growth=1.0)
    look(network, [4, 5, 6, 7])
    ids = [9, 4, 8, 5, 6, 7]  # a merged map's sessions come first
    seen, again = look(network, ids, without_depth=ids)
    assert not again and viewer.queried == [[9, 8]]
    assert_in_order(seen, ids)
    assert set(seen.view.depth) == {0, 2}


def test_more_than_can_be_mapped_at_once_are_mapped_evenly_and_the_rest_is_queried(scene):
    viewer, progress = Viewer(), []
    network = scene(viewer, max_keyframes=5)
    T_odom_cam = np.array([pose_of(i) for i in range(17)])
    seen, _ = network.look(list(range(17)), set(), progress.append, T_odom_cam)
    assert viewer.mapped == [[0, 4, 8, 12, 16]]
    assert viewer.queried == [[i for i in range(17) if i % 4]]
    assert_in_order(seen, range(17))
    assert progress == sorted(progress) and progress[0] > 0 and progress[-1] <= 1


def test_depth_is_estimated_where_it_lacks_and_for_a_few_others_to_compare(scene):
    viewer = Viewer()
    look(scene(viewer), range(40), without_depth=range(30, 40))
    (asked,) = viewer.depth_of
    assert set(range(30, 40)) <= set(asked)
    compared = sorted(set(asked) - set(range(30, 40)))
    assert len(compared) == CHECKED and compared[0] == 0 and compared[-1] == 29


@pytest.mark.parametrize("sensor_scale", [(0.5, 0.01), None])
@pytest.mark.parametrize("depth_scale", [0.48, None])  # None: no depth was estimated
def test_a_restart_goes_on_where_it_was(scene, sensor_scale, depth_scale):
    network = scene(Viewer())
    network.sensor_scale, network.depth_scale = sensor_scale, depth_scale
    look(network, range(8), without_depth=range(8))
    network.save()
    viewer = Viewer()
    again = scene(viewer, growth=1.0)
    assert (again.sensor_scale, again.depth_scale) == (sensor_scale, depth_scale)
    assert_in_order(again.last, range(8))
    assert again.last.basis == 8 and not again.last.view.depth
    np.testing.assert_allclose(
        again.place(np.full((48, 64, 3), 20, np.uint8), CAMERA), pose_of(20)
    )
    assert not look(again, range(9))[1] and viewer.mapped == []


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: truncate(folder / KEYFRAMES_FILE),
        lambda folder: truncate(folder / "scene.safetensors"),
        lambda folder: (folder / KEYFRAMES_FILE).unlink(),
        lambda folder: change(folder / KEYFRAMES_FILE, confidence=np.ones(7)),
        lambda folder: change(folder / KEYFRAMES_FILE, sensor_scale=np.ones(1)),
    ],
)
def test_what_is_damaged_is_mapped_again_with_a_warning(scene, tmp_path, spoil, caplog):
    network = scene(Viewer())
    network.depth_scale = 0.48
    look(network, range(8))
    network.save()
    spoil(tmp_path / FOLDER)
    with caplog.at_level(logging.WARNING):
        again = scene(viewer := Viewer())
    if (tmp_path / FOLDER / KEYFRAMES_FILE).exists():
        assert "maps all keyframes again" in caplog.text and FOLDER in caplog.text
    assert again.last is None and again.depth_scale is None
    assert look(again, range(8))[1] and viewer.mapped == [list(range(8))]


def change(path, **arrays):
    held, metadata = load_arrays(path, ARRAYS)
    save_arrays(path, held | arrays, metadata)


@pytest.mark.parametrize(
    "other, words",
    [
        (Viewer("second"), "another network"),
        (Viewer(convention="world_from_camera"), "read as camera_from_world"),
    ],
)
def test_what_another_network_or_reading_saw_is_not_used(scene, other, words, caplog):
    network = scene(Viewer())
    network.depth_scale = 0.48
    look(network, range(8))
    network.save()
    assert scene(other).last is None and words in caplog.text


def test_what_an_older_version_saved_is_read(scene, tmp_path):
    network = scene(Viewer())
    network.sensor_scale, network.depth_scale = (1.7, 0.02), 2.5
    look(network, range(8))
    network.save()
    (tmp_path / FOLDER / KEYFRAMES_FILE).unlink()
    np.savez(
        tmp_path / FOLDER / OLD_KEYFRAMES_FILE,
        ids=np.arange(8),
        T_network_cam=network.last.view.T_network_cam,
        confidence=network.last.view.confidence,
        basis=8,
        sensor_scale=np.array((1.7, 0.02)),
        depth_scale=2.5,
        pose_convention=np.array("camera_from_world"),
    )
    again = scene(Viewer())
    assert (again.sensor_scale, again.depth_scale) == ((1.7, 0.02), 2.5)
    assert_in_order(again.last, range(8))
