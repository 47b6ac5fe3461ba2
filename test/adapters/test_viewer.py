"""An adapter's network on keyframes: what it is given, and how its answer becomes a view."""

from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.adapters.client import Answered
from vggt3_ros.adapters.contract import About, Seen
from vggt3_ros.adapters.viewer import AdapterViewer
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
UPRIGHT = Camera(48, 64, 60.0, 60.0, 23.5, 31.5)
FAR = np.array([1e6, 2e6, 0.0])  # an odometry frame whose numbers float32 cannot hold


class Process:
    """Answers with the poses that it is given, and keeps the views."""

    adapter = "stand-in"

    def __init__(
        self, takes=("intrinsics", "depth", "poses"), poses="world_from_camera", sized=True
    ):
        self.about = About("stand-in", "weights", "free", "cpu", "float32", takes)
        self._poses, self._sized = poses, sized

    def ready(self, step):
        return self.about

    def __call__(self, views, count, step):
        self.views = list(views)
        assert len(self.views) == count
        seen = []
        for i, view in enumerate(self.views):
            T_world_cam = np.eye(4) if view.T_world_cam is None else view.T_world_cam
            pose = T_world_cam if self._poses == "world_from_camera" else se3.inverse(T_world_cam)
            depth = np.full(view.image.shape[:2], 2.0) if view.dense else None
            confidence = None if depth is None else np.full(depth.shape, 3.0)
            intrinsics = view.intrinsics if self._sized else None
            seen.append(Seen(None if i == 2 else pose, intrinsics, depth, confidence))
        return Answered(seen, self._poses, metric=True)


class Loader:
    def __init__(self, cameras):
        self.cameras = cameras

    def __call__(self, index):
        camera = self.cameras[index]
        return np.full((camera.height, camera.width, 3), index, np.uint8)

    def known(self, index):
        camera, pose = self.cameras[index], np.eye(4)
        pose[:3, 3] = FAR + (index, 0, 0.5)
        return self(index), np.full((camera.height, camera.width), 4.0, np.float32), pose


def seen(cameras, process, depth_of=(), inputs="depth"):
    viewer = AdapterViewer(process, image_side=60, inputs=inputs)
    return viewer.map(Loader(cameras), cameras, depth_of, lambda fraction: None)


@pytest.mark.parametrize(
    "inputs, given",
    [
        ("images", ()),
        ("intrinsics", ("intrinsics",)),
        ("depth", ("intrinsics", "depth")),
        ("poses", ("intrinsics", "depth", "T_world_cam")),
    ],
)
def test_the_network_is_given_what_the_parameter_says(inputs, given):
    process = Process()
    seen([CAMERA] * 2, process, inputs=inputs)
    for view in process.views:
        for name in ("intrinsics", "depth", "T_world_cam"):
            assert (getattr(view, name) is not None) == (name in given), name


def test_what_the_network_does_not_take_is_not_given():
    process = Process(takes=("poses",))
    view = seen([CAMERA] * 2, process, inputs="poses")
    assert process.views[0].intrinsics is process.views[0].depth is None and view.given_poses


def test_images_calibration_and_depth_are_of_one_size():
    process = Process()
    seen([CAMERA] * 2, process, depth_of=[1])
    for index, view in enumerate(process.views):
        assert view.image.shape == (42, 56, 3) and view.depth.shape == (42, 56)
        assert (view.image == index).all() and (view.depth == 4).all()
        np.testing.assert_allclose(view.intrinsics, CAMERA.scaled(56, 42).matrix)
        assert view.dense == (index == 1)


@pytest.mark.parametrize("poses", ["world_from_camera", "camera_from_world"])
def test_poses_go_out_near_the_origin_and_come_back_in_place(poses):
    process = Process(poses=poses)
    view = seen([CAMERA] * 2, process, inputs="poses")
    assert max(np.abs(given.T_world_cam[:3, 3]).max() for given in process.views) < 1e3
    np.testing.assert_allclose(view.T_network_cam[1][:3, 3], FAR + (1, 0, 0.5), atol=1e-6)
    assert view.metric and view.pose_convention == poses


def test_other_sizes_and_unanswered_images_are_unknown():
    view = seen([CAMERA, UPRIGHT, CAMERA, CAMERA], Process(), depth_of=[0, 1, 3])
    known = np.isfinite(view.T_network_cam).all(axis=(1, 2))
    assert known.tolist() == [True, False, True, False]  # the third of those asked has no pose
    assert view.confidence.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert list(view.depth) == [0] and view.scene is None
    depth, confidence = view.depth[0]
    assert (depth == 2).all() and (confidence == 3).all() and confidence.dtype == np.float32


def test_an_image_whose_field_of_view_is_wrong_counts_little():
    class Wrong(Process):
        def __call__(self, views, count, step):
            answered = super().__call__(views, count, step)
            for one in answered.seen:
                one.intrinsics[0, 0] *= 1.2
            return answered

    wrong = seen([CAMERA], Wrong()).confidence[0]
    right = seen([CAMERA], Process()).confidence[0]
    assert right == pytest.approx(1.0) and wrong == pytest.approx(0.23, abs=0.02)
    assert seen([CAMERA], Process(sized=False)).confidence[0] == 1.0


def test_people_are_told_what_runs():
    assert AdapterViewer(Process()).prior() == "stand-in (weights) on cpu, float32; free"
    silent = SimpleNamespace(about=None, adapter="mine.py:Mine")
    assert AdapterViewer(silent).prior() == "adapter mine.py:Mine, not yet connected"
