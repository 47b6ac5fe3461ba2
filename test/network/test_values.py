"""Predictions and scene states: conventions, and files."""

import numpy as np
import pytest
import torch
from tiny_network import (
    one_thread,  # noqa: F401
    random_images,
    tiny_network,
)

from vggt3_ros.network.values import Predictions, SceneState


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def mapped(network):
    return network.map(random_images(4), depth_frames=[0])


def test_a_scene_survives_a_restart(network, mapped, tmp_path):
    mapped[1].save(tmp_path / "scene.safetensors")
    scene = SceneState.load(tmp_path / "scene.safetensors")
    image = random_images(1, seed=7)
    assert torch.equal(
        network.query(image, scene).pose_encoding, network.query(image, mapped[1]).pose_encoding
    )
    assert scene.image_count == 4


def test_a_file_that_is_no_scene_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a scene state"):
        SceneState.load(tmp_path / "other.safetensors")


def test_camera_poses_are_inverse_to_each_other_and_rotations(mapped):
    forward, backward = mapped[0].T_camera_world.numpy(), mapped[0].T_world_camera.numpy()
    np.testing.assert_allclose(
        forward @ backward, np.broadcast_to(np.eye(4), forward.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(forward[:, :3, :3]), 1.0, atol=1e-12)


def test_pose_encoding_is_read_as_camera_from_world_with_fields_of_view():
    half_turn_about_z = [0.0, 0.0, 1.0, 0.0]
    encoding = torch.tensor([[1.0, 2.0, 3.0, *half_turn_about_z, np.pi / 2, 2 * np.arctan(0.5)]])
    predictions = Predictions(encoding, (100, 200))
    world_point = np.array([1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(
        predictions.T_camera_world[0].numpy() @ world_point, [0.0, 1.0, 4.0, 1.0], atol=1e-6
    )
    np.testing.assert_allclose(
        predictions.intrinsics[0].numpy(), [[200, 0, 100], [0, 50, 50], [0, 0, 1]], rtol=1e-6
    )
