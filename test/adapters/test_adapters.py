"""The adapters against stand-ins with the real networks' call signatures, shapes and rules: what
goes in and how the answer is read.
"""

import importlib
import sys

import numpy as np
import pytest
from folders import SUPPORT

from vggt3_ros.adapters import wire
from vggt3_ros.adapters.contract import View, intrinsics_of
from vggt3_ros.geometry import se3

STAND_INS = SUPPORT / "stand_in_models"
HEIGHT, WIDTH, COUNT = 70, 98, 3


@pytest.fixture
def scene(monkeypatch):
    monkeypatch.syspath_prepend(str(STAND_INS))
    for name in [
        name
        for name in sys.modules
        if name.startswith(("mapanything", "depth_anything_3", "pi3", "vggt3_ros.adapters.map_"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    import scene_of_stand_ins

    scene_of_stand_ins.given.clear()
    return scene_of_stand_ins


def made(module, name, weights=""):
    return getattr(importlib.import_module(f"vggt3_ros.adapters.{module}"), name)(
        weights, "cpu", "float32"
    )


def views(scene, intrinsics=True, depth=(), poses=False):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3)).astype(np.uint8)
    matrix, measured = (
        scene.intrinsics(HEIGHT, WIDTH).numpy(),
        np.full((HEIGHT, WIDTH), 2.0, np.float32),
    )
    known = scene.poses(COUNT).numpy()
    return [
        View(
            image,
            matrix if intrinsics else None,
            known[i] if poses else None,
            measured if i in depth else None,
            i != 1,
        )
        for i, image in enumerate(images)
    ]


ALL = [
    ("map_anything", "MapAnything", ""),
    ("depth_anything_3", "DepthAnything3", ""),
    ("pi3x", "Pi3X", ""),
    ("map_anything_models", "MapAnythingModels", "vggt"),
    ("map_anything_models", "MapAnythingModels", "pi3x"),
    ("map_anything_models", "MapAnythingModels", "must3r"),
]


@pytest.mark.parametrize(
    "module, name, weights", ALL, ids=[f"{name}-{weights}" for _, name, weights in ALL]
)
def test_poses_depth_confidence_and_intrinsics_come_out_as_the_contract_has_them(
    scene, module, name, weights
):
    adapter = made(module, name, weights)
    answer = adapter(views(scene), lambda fraction: None)
    wire.check(answer, views(scene))
    truth = scene.poses(COUNT).numpy()
    for i, seen in enumerate(answer.seen):
        _, arrived = wire.unpacked_seen(*wire.packed_seen(1, i, seen, i != 1))
        pose = arrived.pose if answer.poses == "world_from_camera" else se3.inverse(arrived.pose)
        np.testing.assert_allclose(pose, truth[i], atol=1e-5)
        np.testing.assert_allclose(
            arrived.intrinsics, scene.intrinsics(HEIGHT, WIDTH), rtol=1e-3, atol=1.0
        )
        depth = wire.along_z(arrived, answer.poses)
        assert (depth is None) == (i == 1)
        if depth is not None:
            sure = depth > 0
            expected = scene.points(scene.poses(COUNT)[i], *depth.shape)[..., 2].numpy()
            np.testing.assert_allclose(depth[sure], expected[sure], rtol=1e-4)
            np.testing.assert_allclose(arrived.confidence[sure], scene.DEPTH_CONFIDENCE, rtol=1e-4)
            assert sure.mean() > 0.9 and (arrived.confidence[~sure] <= 1).all()
    header = wire.hello(adapter)
    assert (
        wire.about(header).patch == (16 if weights == "must3r" else 14)
        and header["device"] == "cpu"
    )


def test_map_anything_is_given_what_is_known_view_by_view(scene):
    adapter = made("map_anything", "MapAnything")
    adapter(views(scene, depth=(0, 2), poses=True), lambda fraction: None)
    assert (
        scene.given["weights"] == "facebook/map-anything-apache"
        and adapter.licence == "Apache-2.0, commercial use allowed"
    )
    assert ["depth_z" in view for view in scene.given["views"]] == [True, False, True]
    assert (
        all("camera_poses" in view and "intrinsics" in view for view in scene.given["views"])
        and scene.given["use_amp"] is False
    )
    adapter(views(scene, intrinsics=False, depth=(0,)), lambda fraction: None)
    assert not any(
        {"depth_z", "intrinsics", "camera_poses"} & set(view) for view in scene.given["views"]
    )


def test_depth_anything_is_given_poses_from_the_world_to_the_camera(scene):
    adapter = made("depth_anything_3", "DepthAnything3")
    adapter(views(scene, poses=True), lambda fraction: None)
    assert (
        scene.given["weights"] == "depth-anything/DA3-BASE"
        and adapter.licence == "Apache-2.0, commercial use allowed"
    )
    np.testing.assert_allclose(
        scene.given["extrinsics"], se3.inverse(scene.poses(COUNT).numpy()), atol=1e-6
    )
    adapter(views(scene), lambda fraction: None)
    assert scene.given["extrinsics"] is None and scene.given["intrinsics"] is None


def test_pi3x_is_told_which_views_have_depth(scene):
    adapter = made("pi3x", "Pi3X")
    adapter(views(scene, depth=(2,), poses=True), lambda fraction: None)
    ray, depth, pose = (mask.tolist() for mask in scene.given["masks"])
    assert (ray, depth, pose) == ([[True] * 3], [[False, False, True]], [[True] * 3])
    assert float(scene.given["depths"][0, 2].mean()) == 2 and not scene.given["depths"][0, 0].any()
    assert "not for commercial use" in adapter.licence
    adapter(views(scene, intrinsics=False), lambda fraction: None)
    assert scene.given["depths"] is scene.given["intrinsics"] is scene.given["poses"] is None


@pytest.mark.parametrize(
    "model, kind, low",
    [("vggt", "identity", 0.0), ("da3", "dinov2", -2.2), ("must3r", "dust3r", -1.0)],
)
def test_the_factory_s_models_get_images_as_each_wants_them(scene, model, kind, low):
    adapter = made("map_anything_models", "MapAnythingModels", model)
    adapter(views(scene), lambda fraction: None)
    view = scene.given["views"][0]
    assert view["data_norm_type"] == [kind] and float(view["img"].min()) == pytest.approx(
        low, abs=0.1
    )
    assert "licence unknown" in adapter.licence or "not for commercial use" in adapter.licence


def test_a_camera_is_found_from_rays_and_none_where_there_are_none(scene):
    points = scene.points(scene.poses(2)[1], HEIGHT, WIDTH).numpy()
    np.testing.assert_allclose(intrinsics_of(points), scene.intrinsics(HEIGHT, WIDTH), rtol=1e-5)
    np.testing.assert_allclose(
        intrinsics_of(points / np.linalg.norm(points, axis=-1, keepdims=True)),
        scene.intrinsics(HEIGHT, WIDTH),
        rtol=1e-5,
    )
    assert (
        intrinsics_of(np.full((5, 5, 3), np.nan)) is None
        and intrinsics_of(np.ones((5, 5, 3))) is None
    )
