"""The network on keyframes: which images it is given, and how its answer is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_network import one_thread, random_images, tiny_network  # noqa: F401

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.network.checkpoint_files import CheckpointError
from vggt3_ros.network.keyframe_view import KeyframeViewer, field_of_view_agreement, load_network

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
UPRIGHT = Camera(48, 64, 60.0, 60.0, 23.5, 31.5)


class Loader:
    """Images by index, and which of them were loaded."""

    def __init__(self, cameras):
        self.loaded = []
        self.images = [
            (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            for camera, i in zip(cameras, range(len(cameras)), strict=True)
            for image in random_images(1, (camera.height, camera.width), seed=i)
        ]

    def __call__(self, index):
        self.loaded.append(index)
        return self.images[index]


def viewer(**options):
    return KeyframeViewer(tiny_network(), image_side=60, **options)


def seen(cameras, depth_of=(), **options):
    load = Loader(cameras)
    return viewer(**options).map(load, cameras, depth_of, lambda fraction: None), load


def test_images_of_another_size_are_left_out_and_indices_stay_those_of_the_caller():
    view, load = seen([CAMERA, UPRIGHT, CAMERA, CAMERA], depth_of=[1, 2])
    assert set(load.loaded) == {0, 2, 3}
    known = np.isfinite(view.T_network_cam).all(axis=(1, 2))
    assert known.tolist() == [True, False, True, True]
    assert view.confidence[1] == 0 and (view.confidence[known] >= 0).all()
    depth, confidence = view.depth[2]
    # the longer side is the largest multiple of 14 within 60 pixels
    assert list(view.depth) == [2] and depth.shape == confidence.shape == (42, 56)
    assert view.scene is not None and view.scene.image_count == 3


def test_the_convention_of_the_poses_is_obeyed():
    one, _ = seen([CAMERA] * 2)
    other, _ = seen([CAMERA] * 2, pose_convention="world_from_camera")
    assert one.pose_convention == "camera_from_world"
    np.testing.assert_allclose(one.T_network_cam @ other.T_network_cam, [np.eye(4)] * 2, atol=1e-6)


def test_other_images_are_placed_in_a_mapped_scene():
    view, _ = seen([CAMERA] * 3)
    load = Loader([CAMERA] * 2)
    placed = viewer().place(load, [CAMERA] * 2, [1], lambda fraction: None, view.scene)
    assert placed.scene is view.scene and list(placed.depth) == [1]
    # the first image of the map, asked again, is where it was: near the origin of the map
    assert np.isfinite(placed.T_network_cam).all()


def test_what_the_caller_s_step_raises_stops_the_network():
    class Enough(Exception):
        pass

    def step(fraction):
        if fraction > 0.3:
            raise Enough

    with pytest.raises(Enough):
        viewer().map(Loader([CAMERA] * 2), [CAMERA] * 2, [], step)


def test_people_are_told_which_network_it_is():
    text = viewer(weights="nvidia/vgg-ttt").prior()
    assert (
        text
        == "nvidia/vgg-ttt on cpu, float32; NVIDIA OneWay Noncommercial, not for commercial use"
    )
    assert viewer().prior().startswith("a custom network on cpu")
    assert viewer().fingerprint() == tiny_network().fingerprint()


@given(st.floats(0.25, 4), st.floats(0.25, 4))
def test_agreement_falls_with_the_worse_axis(vertical, horizontal):
    true = np.array([CAMERA.height / CAMERA.fy, CAMERA.width / CAMERA.fx]) / 2
    agreement = field_of_view_agreement(np.array([true * (vertical, horizontal)]), [CAMERA])[0]
    worst = max(abs(np.log(vertical)), abs(np.log(horizontal)))
    assert agreement == pytest.approx(1 / (1 + (worst / 0.1) ** 2), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("tangent", [0.0, np.inf, np.nan, -1.0])
def test_a_field_of_view_that_cannot_be_agrees_with_nothing(tangent):
    good = CAMERA.height / CAMERA.fy / 2
    assert field_of_view_agreement(np.array([[good, tangent]]), [CAMERA])[0] == 0


def test_a_network_is_loaded_once():
    with pytest.raises(CheckpointError):
        load_network("/no/such/file.safetensors", "cpu", "float32")
