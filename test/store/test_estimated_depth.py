"""Estimated depth: stored with its keyframe, used by every stage, and never in place of measured
depth.
"""

import numpy as np
import pytest

from vggt3_ros.features.frame import FrameSource
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.estimated_depth import EstimatedDepth
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore

CAMERA = Camera(160, 120, 120.0, 120.0, 79.5, 59.5, "plumb_bob", (0.1, -0.05, 0.0, 0.0, 0.0))


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        rng = np.random.default_rng(0)
        for i, depth in enumerate(
            (None, np.full((120, 160), 2.0, np.float32), np.zeros((120, 160), np.float32))
        ):
            store.put(
                Keyframe(
                    i, i, rng.integers(0, 255, (120, 160, 3), np.uint8), CAMERA, np.eye(4), depth
                )
            )
        yield store


def test_it_is_kept_to_half_precision_at_its_own_resolution(store):
    depth = np.linspace(0.3, 9, 60 * 80, dtype=np.float32).reshape(60, 80)
    depth[:10] = 0
    EstimatedDepth(store).put(0, depth)
    again = EstimatedDepth(store).get(0)
    assert again.dtype == np.float32 and (again[:10] == 0).all()
    np.testing.assert_allclose(again, depth, rtol=1e-3)
    np.testing.assert_array_equal(EstimatedDepth(store).at_size(0, 160, 120)[::2, ::2], again)
    assert (
        EstimatedDepth(store).get(1) is None and EstimatedDepth(store).at_size(1, 160, 120) is None
    )


def test_only_a_keyframe_without_measured_depth_is_completed_and_then_undistorted(store):
    estimated = EstimatedDepth(store)
    for i in range(3):
        estimated.put(i, np.full((60, 80), 3.0, np.float32))
    for i, expected in enumerate((3.0, 2.0, 3.0)):
        completed = estimated.completed(store.get(i))
        assert np.median(completed.depth) == expected
        assert completed.camera.is_distorted == (i == 1)
    store.put_cache(0, "estimated_depth", "1", b"no tensors")
    with pytest.raises(ValueError, match="keyframe 0 is damaged"):
        estimated.completed(store.get(0))


def test_frames_use_estimated_depth_as_soon_as_it_is_stored(store, encoder):
    frames = FrameSource(store, encoder, 100)
    assert not frames(0).has_depth and frames(1).has_depth and not frames(1).estimated
    frames.estimate(0, np.full((60, 80), 3.0, np.float32))
    assert frames(0).estimated and np.median(frames(0).cell_depth[1:-1, 1:-1]) == 3.0
    assert FrameSource(store, encoder, 100)(0).estimated  # after a restart
    frames.estimate(0, np.full((60, 80), 4.0, np.float32))
    assert (
        frames(0).keypoint_depth.max(initial=4.0) == 4.0
        and np.median(frames(0).cell_depth[1:-1, 1:-1]) == 4.0
    )
    assert np.median(frames(1).cell_depth) == 2.0


def test_unreliable_depth_is_in_the_frame_but_not_in_the_map(store, encoder):
    frames, sure = FrameSource(store, encoder, 100), np.zeros((60, 80), bool)
    sure[:, :40] = True
    frames.estimate(0, np.full((60, 80), 3.0, np.float32), sure)
    assert (frames(0).cell_depth[1:-1, 1:-1] == 3.0).all()
    mapped = frames.estimated.completed(store.get(0)).depth
    assert (mapped[:, :78] == 3.0).all() and not mapped[:, 82:].any()
