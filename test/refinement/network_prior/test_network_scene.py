"""What the network saw, kept on disk for the next start."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vggt3_ros.config import NetworkConfig
from vggt3_ros.network.keyframe_view import NetworkView
from vggt3_ros.network.values import SceneState
from vggt3_ros.refinement.network_prior.network_scene import NetworkScene, Seen

IDS = (3, 1, 8)


class Viewer:
    pose_convention = "camera_from_world"

    def __init__(self, name="stand-in"):
        self._name = name

    def fingerprint(self):
        return self._name


@pytest.fixture
def start(tmp_path):
    """Make the scene of a back end that starts with this viewer and what lies on the disk."""
    store = SimpleNamespace(snapshots=tmp_path)
    return lambda viewer: NetworkScene(viewer, store, NetworkConfig())


def filled(scene, depth_scale):
    rng = np.random.default_rng(0)
    state = SceneState(torch.zeros(1, 3, 1, 2, 2), torch.ones(3, 4), "stand-in")
    # transposed, as a network's output may lie in memory
    poses = rng.random((4, 4, 3)).T
    view = NetworkView(poses, rng.random(3), {}, state, "camera_from_world")
    scene.last = Seen(IDS, view, 2)
    scene.sensor_scale, scene.depth_scale = (1.7, 0.02), depth_scale
    return scene


@pytest.mark.parametrize("depth_scale", [2.5, None])
def test_the_next_start_has_what_was_saved(start, depth_scale):
    saved = filled(start(Viewer()), depth_scale)
    saved.save()
    again = start(Viewer())
    assert again.last.ids == IDS and again.last.basis == 2
    np.testing.assert_array_equal(again.last.view.T_network_cam, saved.last.view.T_network_cam)
    np.testing.assert_array_equal(again.last.view.confidence, saved.last.view.confidence)
    assert (again.sensor_scale, again.depth_scale) == ((1.7, 0.02), depth_scale)


def test_what_an_older_version_saved_is_read(start, tmp_path):
    saved = filled(start(Viewer()), 2.5)
    saved.save()
    (tmp_path / "network" / "keyframes.safetensors").unlink()
    np.savez(  # as version 1.0 wrote it
        tmp_path / "network" / "keyframes.npz",
        ids=np.array(IDS, np.int64),
        T_network_cam=saved.last.view.T_network_cam,
        confidence=saved.last.view.confidence,
        basis=2,
        sensor_scale=np.array((1.7, 0.02), float),
        depth_scale=2.5,
        pose_convention=np.array("camera_from_world"),
    )
    again = start(Viewer())
    assert again.last.ids == IDS and again.depth_scale == 2.5 and again.last.basis == 2
    np.testing.assert_array_equal(again.last.view.T_network_cam, saved.last.view.T_network_cam)


@pytest.mark.parametrize("wrong", ["network", "convention", "cut", "other arrays"])
def test_what_does_not_fit_is_mapped_anew_with_a_warning(start, tmp_path, caplog, wrong):
    filled(start(Viewer()), 2.5).save()
    viewer, path = Viewer(), tmp_path / "network" / "keyframes.safetensors"
    if wrong == "network":
        viewer = Viewer("another")
    elif wrong == "convention":
        viewer.pose_convention = "world_from_camera"
    elif wrong == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.write_bytes((tmp_path / "network" / "scene.safetensors").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert start(viewer).last is None
    assert "maps the keyframes anew" in caplog.text
