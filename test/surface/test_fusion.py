"""Fused maps of scenes whose surfaces are known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from walls import COLOR, POSES, same_surface, wall

from vggt3_ros.config import MapConfig
from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.surface.fusion import Surface, fuse


def test_a_wall_is_a_plane_in_its_colour():
    cloud = fuse([wall(2.0, pose) for pose in POSES], np.array(POSES), MapConfig(voxel_size=0.04))
    assert len(cloud) > 500
    assert np.abs(cloud.points[:, 2] - 2.0).max() < 0.01
    assert np.abs(cloud.colors.astype(int) - COLOR).max() <= 2
    assert cloud.confidence.min() >= 0 and cloud.confidence.max() <= 1


def test_poses_given_decide_not_those_of_the_odometry():
    shift = se3.exp([1, -2, 3, 0, 0, 1.0])
    cloud = fuse(
        [wall(2.0, pose) for pose in POSES], shift @ np.array(POSES), MapConfig(voxel_size=0.04)
    )
    assert np.abs(se3.transform_points(se3.inverse(shift), cloud.points)[:, 2] - 2.0).max() < 0.01


UTM = np.array([500_000.0, 4_600_000.0, 1_000.0])


@pytest.mark.parametrize("offset", [UTM, [-1e7, 9_999_999.0, 123.0]])
def test_a_map_in_coordinates_of_a_country_is_that_at_the_origin(offset):
    here = fuse([wall(2.0, pose) for pose in POSES], np.array(POSES), MapConfig(voxel_size=0.04))
    there = fuse(
        [wall(2.0, pose) for pose in POSES], shifted(POSES, offset), MapConfig(voxel_size=0.04)
    )
    assert len(there) == pytest.approx(len(here), rel=0.02) and there.points.dtype == np.float64
    distance = cKDTree(here.points).query(there.points - offset)[0]
    assert np.median(distance) < 0.01 and distance.max() < 0.05
    assert np.abs(there.points[:, 2] - offset[2] - 2.0).max() < 0.01
    np.testing.assert_allclose(there.origin + there.around_origin, there.points, atol=1e-6)


def test_a_surface_that_is_far_away_loses_what_is_taken_out():
    """Taken out again at coordinates of a country, a keyframe leaves the surface of the others."""
    config, poses = MapConfig(voxel_size=0.04), shifted(POSES, UTM)
    surface = Surface(config, UTM)
    for near, pose in zip(POSES, poses):
        surface.add(wall(2.0, near), pose)
    surface.add(wall(2.7, POSES[0]), poses[0])
    surface.remove(wall(2.7, POSES[0]), poses[0])
    assert np.abs(surface.cloud().points[:, 2] - UTM[2] - 2.0).max() < 0.01


def test_a_keyframe_too_far_from_the_others_does_not_spoil_their_map():
    """Blocks of voxels have numbers of 21 bits along an axis: those of this keyframe would be
    those of the first ones.
    """
    config = MapConfig(voxel_size=0.04)
    period = np.array([2**21 * 8 * 0.04, 0, 0])
    seen = [wall(2.0, pose) for pose in POSES]
    alone = fuse(seen, np.array(POSES), config)
    with_one = fuse(seen + seen[:1], np.concatenate([POSES, shifted(POSES[:1], period)]), config)
    assert (
        len(alone) == len(with_one)
        and cKDTree(alone.points).query(with_one.points)[0].max() < 1e-3
    )


def test_more_views_make_a_surface_surer_and_few_views_are_left_out():
    few, many = (
        fuse(
            [wall(2.013, np.eye(4), k) for k in range(count)],
            np.tile(np.eye(4), (count, 1, 1)),
            MapConfig(voxel_size=0.04),
        )
        for count in (3, 8)
    )
    assert np.median(many.confidence) > np.median(few.confidence)
    once = fuse(
        [wall(2.013, np.eye(4))], np.eye(4)[None], MapConfig(voxel_size=0.04, minimum_weight=2.0)
    )
    assert len(once) == 0


def test_depth_beyond_the_limit_is_not_fused():
    assert (
        len(
            fuse(
                [wall(4.0, pose) for pose in POSES],
                np.array(POSES),
                MapConfig(voxel_size=0.04, max_depth=3.0),
            )
        )
        == 0
    )


def test_a_keyframe_with_nothing_in_reach_does_not_stop_the_others():
    speck = wall(2.0, POSES[0])
    speck.depth[:] = 0
    speck.depth[7, 9] = 2.0
    far, near = [wall(50.0, pose) for pose in POSES], [wall(2.0, pose) for pose in POSES]
    config = MapConfig(voxel_size=0.04)
    cloud = fuse(far + [speck] + near, np.array(POSES + POSES[:1] + POSES), config)
    assert len(cloud) == pytest.approx(len(fuse(near, np.array(POSES), config)), rel=0.02)


def test_keyframes_without_depth_leave_the_map_as_it_is():
    seen, blind = (
        [wall(2.0, pose) for pose in POSES],
        [wall(2.0, pose, depth=False) for pose in POSES],
    )
    config = MapConfig(voxel_size=0.04)
    alone, mixed = (
        fuse(seen, np.array(POSES), config),
        fuse(seen + blind, np.array(POSES + POSES), config),
    )
    assert len(alone) == len(mixed)
    assert (
        len(fuse(blind, np.array(POSES), config))
        == len(fuse([], np.zeros((0, 4, 4)), config))
        == 0
    )


def test_at_most_as_many_points_as_asked_for():
    config = MapConfig(voxel_size=0.02, max_points=1000)
    cloud = fuse([wall(2.0, pose) for pose in POSES], np.array(POSES), config)
    assert len(cloud) == len(cloud.colors) == len(cloud.confidence) == 1000
    np.testing.assert_allclose(
        np.ptp(cloud.points[:, :2], axis=0),
        np.ptp(
            fuse(
                [wall(2.0, pose) for pose in POSES],
                np.array(POSES),
                # thinned everywhere, not cut off
                MapConfig(voxel_size=0.02),
            ).points[:, :2],
            axis=0,
        ),
        rtol=0.1,
    )


def test_thinning_keeps_points_with_their_colours():
    rng = np.random.default_rng(0)
    cloud = PointMap(
        rng.normal(size=(5000, 3)).astype(np.float32),
        rng.integers(0, 256, (5000, 3), np.uint8),
        rng.random(5000, np.float32),
    )
    thin = cloud.thinned(700)
    row = {point.tobytes(): k for k, point in enumerate(cloud.points)}
    index = [row[point.tobytes()] for point in thin.points]
    assert len(set(index)) == 700
    np.testing.assert_array_equal(cloud.colors[index], thin.colors)
    np.testing.assert_array_equal(cloud.confidence[index], thin.confidence)
    assert cloud.thinned(5000) is cloud


def test_a_distorted_camera_sees_the_same_wall():
    lens = Camera(160, 120, 130.0, 130.0, 79.5, 59.5, "plumb_bob", (-0.2, 0.05, 0, 0, 0))
    # A wall seen head-on has one depth, distorted or not; what undistortion must not do is bend it
    # or fill its corners.
    depth = np.full((120, 160), 2.013, np.float32)
    frames = [
        Keyframe(k, k, np.full((120, 160, 3), COLOR, np.uint8), lens, np.eye(4), depth)
        for k in range(3)
    ]
    cloud = fuse(frames, np.tile(np.eye(4), (3, 1, 1)), MapConfig(voxel_size=0.04))
    assert len(cloud) > 300 and np.abs(cloud.points[:, 2] - 2.013).max() < 0.01


def test_progress_counts_every_keyframe():
    told = []
    fuse(
        [wall(2.0, pose) for pose in POSES],
        np.array(POSES),
        MapConfig(voxel_size=0.05),
        progress=told.append,
    )
    assert told == pytest.approx(np.arange(1, 7) / 6)


def test_a_rendered_room_is_mapped_to_its_true_surfaces(rendered):
    cloud = fuse(rendered.keyframes[:10], rendered.T_world_cam[:10], MapConfig(voxel_size=0.03))
    off = apartment.surfaces().distance(cloud.points)
    assert len(cloud) > 5000 and np.median(off) < 0.01 and np.quantile(off, 0.9) < 0.04


def test_what_is_taken_out_leaves_the_surface_of_the_others():
    config, elsewhere = MapConfig(voxel_size=0.04), se3.exp([0.3, 0.1, 0.5, 0.2, 0, 0.4])
    surface = Surface(config)
    for pose in POSES:
        surface.add(wall(2.0, pose), pose)
    for _ in range(3):
        surface.add(wall(1.7, POSES[0]), elsewhere)
        surface.remove(wall(2.0, POSES[2]), POSES[2])
        surface.remove(wall(1.7, POSES[0]), elsewhere)
        surface.add(wall(2.0, POSES[2]), POSES[2])
    surface.remove(wall(2.0, POSES[5]), POSES[5])
    same_surface(
        surface.cloud(), fuse([wall(2.0, pose) for pose in POSES[:5]], np.array(POSES[:5]), config)
    )
    for pose in POSES[:5]:
        surface.remove(wall(2.0, pose), pose)
    assert len(surface.cloud()) == 0


def test_what_was_never_fused_there_cannot_be_taken_out():
    surface = Surface(MapConfig(voxel_size=0.04))
    surface.add(wall(2.0, POSES[0]), POSES[0])
    with pytest.raises(ValueError, match="keyframe 7"):
        surface.remove(wall(2.0, POSES[0], id=7), se3.exp([0, 0, 1.0, 0, 0, 0]))
    # without depth there is nothing to take out
    surface.remove(wall(2.0, POSES[0], depth=False), POSES[3])
    assert len(surface.cloud()) == 0 or surface.cloud().confidence.max() <= 1 / 8
