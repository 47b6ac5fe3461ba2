"""(key, point) pairs of a keyframe: the points are where its depth says."""

from dataclasses import replace

import numpy as np

from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.geometry import se3
from vggt3_ros.memory.pairs import pairs_of


def test_points_lie_on_the_surfaces_of_the_scene_and_under_their_pixels(frames, rendered):
    for k in range(0, 28, 9):
        pairs = pairs_of(frames[k], 6.0)
        assert 300 < len(pairs) == len(pairs.keys) == len(pairs.pixels)
        off = apartment.surfaces().distance(
            se3.transform_points(rendered.T_world_cam[k], pairs.points)
        )
        assert np.median(off) < 0.01 and np.quantile(off, 0.95) < 0.05
        np.testing.assert_allclose(rendered.camera.project(pairs.points), pairs.pixels, atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(pairs.keys, axis=1), 1, atol=1e-4)


def test_far_points_are_left_out(frames):
    near = pairs_of(frames[0], 2.0)
    assert 64 < len(near) < len(pairs_of(frames[0], 6.0)) and near.points[:, 2].max() <= 2.0


def test_without_depth_there_are_no_pairs(frames):
    blind = replace(frames[0], keypoint_depth=np.zeros_like(frames[0].keypoint_depth))
    assert len(pairs_of(blind, 6.0)) == 0
