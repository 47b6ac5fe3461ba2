"""When depth is estimated from motion, and that too few keyframes for it are no obstacle."""

from dataclasses import replace

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.refinement.monocular.structure import Structure


def keyframe(i, with_depth):
    return replace(
        make_keyframe(i, depth=None),
        depth=np.full((48, 64), 2.0, np.float32) if with_depth else None,
    )


@pytest.mark.parametrize(
    "estimate, without, expected",
    [
        ("auto", 20, True),
        ("auto", 18, True),
        ("auto", 17, False),
        ("auto", 0, False),
        ("never", 20, False),
        ("always", 20, True),
        ("always", 1, True),
        ("always", 0, False),
    ],
)
def test_a_camera_without_depth_is_told_from_one_that_lacks_it_now_and_then(
    tmp_path, encoder, estimate, without, expected
):
    with KeyframeStore(tmp_path / "store") as store:
        for i in range(20):
            store.put(keyframe(i, i >= without))
        structure = Structure(
            FrameSource(store, encoder, 100),
            BackendConfig.from_flat({"depth.estimate": estimate}),
            "cpu",
        )
        assert store.without_depth() == set(range(without))
        assert structure.serves(list(range(20))) == expected


def test_a_camera_with_depth_costs_no_look_at_its_keyframes(tmp_path, encoder):
    with KeyframeStore(tmp_path / "store") as store:
        for i in range(3):
            store.put(keyframe(i, True))
        frames, looked_at = FrameSource(store, encoder, 100), []
        frames.touched = looked_at.append
        assert not Structure(frames, BackendConfig(), "cpu").serves([0, 1, 2]) and not looked_at


@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_camera_that_has_not_moved_yet_has_poses_and_no_map(tmp_path, rendered, count):
    with KeyframeStore(tmp_path / "store") as store:
        backend = Backend(store, BackendConfig.from_flat({"device": "cpu"}))
        for i in range(count):
            backend.add(replace(rendered.keyframes[0], id=i, stamp_ns=i, depth=None))
        snapshot = backend.refine()
        assert len(snapshot) == count and len(snapshot.cloud) == 0
        np.testing.assert_allclose(
            snapshot.T_map_cam, np.tile(rendered.keyframes[0].T_odom_cam, (count, 1, 1)), atol=1e-3
        )
