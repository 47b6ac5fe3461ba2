"""Adapters around stand-ins that have the real networks' call signatures, shapes and rules."""

import importlib
import sys

import numpy as np
import pytest
from folders import SUPPORT

from vggt3_ros.adapters import wire
from vggt3_ros.adapters.contract import View
from vggt3_ros.geometry import se3

STAND_INS = SUPPORT / "stand_in_models"
HEIGHT, WIDTH, COUNT = 70, 98, 3
PACKAGES = ("mapanything", "depth_anything_3", "pi3", "vggt3_ros.adapters.map_")


@pytest.fixture
def scene(monkeypatch):
    """The scene that the stand-ins see; its `given` holds their last input. Import it to use it."""
    monkeypatch.syspath_prepend(str(STAND_INS))
    for name in [name for name in sys.modules if name.startswith(PACKAGES)]:
        monkeypatch.delitem(sys.modules, name)
    import scene_of_stand_ins

    scene_of_stand_ins.given.clear()
    return scene_of_stand_ins


def made(module, name, weights=""):
    """An adapter class of vggt3_ros.adapters, made for a CPU in float32."""
    found = getattr(importlib.import_module(f"vggt3_ros.adapters.{module}"), name)
    return found(weights, "cpu", "float32")


def views(scene, intrinsics=True, depth=(), poses=False):
    """Three views of the scene, with what of them is known; the second wants no depth."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3)).astype(np.uint8)
    matrix = scene.intrinsics(HEIGHT, WIDTH).numpy()
    measured = np.full((HEIGHT, WIDTH), 2.0, np.float32)
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


def ask(adapter, *arguments, **options):
    return adapter(views(*arguments, **options), lambda fraction: None)


def assert_it_keeps_the_contract(scene, adapter, patch=14):
    """Poses, depth, confidence and intrinsics of the answer, after the way over the wire."""
    answer = ask(adapter, scene)
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
    assert wire.about(header).patch == patch and header["device"] == "cpu"
