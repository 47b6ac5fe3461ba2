"""Depth Anything 3: what it is given, and how its answer is read."""

import numpy as np
from adapter_stand_ins import COUNT, ask, assert_it_keeps_the_contract, made, scene  # noqa: F401

from vggt3_ros.geometry import se3


def test_its_answer_keeps_the_contract(scene):  # noqa: F811
    assert_it_keeps_the_contract(scene, made("depth_anything_3", "DepthAnything3"))


def test_poses_go_in_from_the_world_to_the_camera(scene):  # noqa: F811
    adapter = made("depth_anything_3", "DepthAnything3")
    ask(adapter, scene, poses=True)
    assert scene.given["weights"] == "depth-anything/DA3-BASE"
    assert adapter.licence == "Apache-2.0, commercial use allowed"
    expected = se3.inverse(scene.poses(COUNT).numpy())
    np.testing.assert_allclose(scene.given["extrinsics"], expected, atol=1e-6)


def test_without_poses_or_intrinsics_images_go_in_alone(scene):  # noqa: F811
    adapter = made("depth_anything_3", "DepthAnything3")
    for options in ({"poses": False}, {"poses": True, "intrinsics": False}):
        ask(adapter, scene, **options)
        assert scene.given["extrinsics"] is None and scene.given["intrinsics"] is None
