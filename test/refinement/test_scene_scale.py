from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig, MapConfig
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.plans import shrunk
from vggt3_ros.refinement.scene_scale import SceneScale, described, in_scale, scene_scale
from vggt3_ros.store.keyframes import KeyframeStore

ROOM_M = MapConfig().max_depth


class Seen:
    """A Frame's depth."""

    def __init__(self, depth):
        self.cell_depth = np.asarray(depth, np.float32)
        self.keypoint_depth = self.cell_depth.ravel()


def measured(depths, last=None):
    return scene_scale(lambda i: Seen(depths[i]), range(len(depths)), ROOM_M, last)


def test_a_room_has_the_lengths_of_a_room():
    assert measured([np.linspace(0.5, 5.5, 100)] * 3).scale == 1.0
    assert measured([np.linspace(0.1, 0.6, 100)] * 3).scale == 1.0


@pytest.mark.parametrize("times", [2, 4, 8])
def test_lengths_grow_with_the_depth(times):
    found = measured([times * np.linspace(0.5, 6.2, 100)] * 40)
    assert times / 1.2 < found.scale < times * 1.2
    assert found.depth_m == pytest.approx(times * 5.06, rel=0.02)


def test_a_few_far_pixels_change_nothing():
    depth = np.linspace(0.5, 4.0, 100)
    depth[-15:] = 80.0
    assert measured([depth]).scale == 1.0


def test_a_scale_is_kept_while_it_fits():
    last = measured([np.linspace(1, 20, 100)]).scale
    assert last > 2
    assert measured([np.linspace(1, 20 * 1.2, 100)], last).scale == last
    assert measured([np.linspace(1, 20 / 1.4, 100)], last).scale == last
    assert measured([np.linspace(1, 20 * 2, 100)], last).scale > last
    assert measured([np.linspace(1, 20 / 2.2, 100)], last).scale < last


def test_without_depth_it_is_what_it_was():
    assert measured([np.zeros((4, 4))]).scale == 1.0
    assert measured([np.zeros((4, 4))], 4.0).scale == 4.0


def test_chosen_values_stay():
    config = BackendConfig.from_flat({"map.moved": 0.03, "memory.max_depth": 11.0})
    larger = in_scale(config, 4.0)
    assert (larger.map.moved, larger.memory.max_depth) == (0.03, 11.0)
    assert larger.map.max_depth == 4 * config.map.max_depth
    assert larger.loops.proximity_radius == 4 * config.loops.proximity_radius
    assert larger.loops.pairs_per_keyframe == config.loops.pairs_per_keyframe
    assert in_scale(config, 1.0) == config


def test_rays_have_no_more_voxels_than_in_a_room():
    """Small voxels that a user chose must not fill memory as far as a street is seen."""
    chosen = BackendConfig.from_flat({"map.voxel_size": 0.05})
    assert in_scale(chosen, 12.0).map.max_depth == pytest.approx(12.5)
    fine = BackendConfig.from_flat({"map.voxel_size": 0.01})
    assert in_scale(fine, 12.0).map.max_depth == BackendConfig().map.max_depth
    both = BackendConfig.from_flat({"map.voxel_size": 0.05, "map.max_depth": 40.0})
    assert in_scale(both, 12.0).map.max_depth == 40.0


def test_a_plan_for_less_memory_grows_too():
    for level in range(1, 5):
        plan = shrunk(BackendConfig(), level)
        assert in_scale(plan, 4.0).map.voxel_size == pytest.approx(4 * plan.map.voxel_size)


def test_no_length_leaves_its_range():
    flat = in_scale(BackendConfig(), 20.0).flat()
    BackendConfig.from_flat({name: value for name, (value, _) in flat.items()})


def test_what_was_chosen_is_told():
    text = described(SceneScale(4.0, 21.0), in_scale(BackendConfig(), 4.0))
    assert "21.0 m" in text and "map.max_depth 20 m" in text and "scene_scale" in text


def larger(keyframe, times):
    """The same keyframe, had everything been so many times as large."""
    return replace(
        keyframe,
        depth=keyframe.depth * np.float32(times),
        T_odom_cam=scaled(keyframe.T_odom_cam, times),
    )


def scaled(poses, times):
    poses = np.array(poses)
    poses[..., :3, 3] *= times
    return poses


@pytest.mark.parametrize("times", [1, 8])
def test_a_large_scene_is_mapped_remembered_and_localized_in_as_a_room_is(
    rendered, tmp_path, times
):
    with KeyframeStore(tmp_path) as store:
        backend = Backend(store, BackendConfig.from_flat({"device": "cpu"}))
        for keyframe in rendered.keyframes:
            backend.add(larger(keyframe, times))
        snapshot = backend.refine()
        answers = [backend.localize(q, rendered.camera, verify=False) for q in rendered.queries]
        backend.close()
    assert snapshot.report["scene_scale"] == pytest.approx(max(1, times * 0.7), rel=0.35)
    assert not snapshot.report["empty"] and len(snapshot.cloud) > 20_000
    truth = scaled(rendered.T_world_cam, times)
    T_world_map = truth[0] @ se3.inverse(snapshot.T_map_cam[0])
    off = np.linalg.norm((T_world_map @ snapshot.T_map_cam - truth)[:, :3, 3], axis=1)
    assert np.median(off) < 0.02 * times, np.median(off)
    found = [
        np.linalg.norm((T_world_map @ answer.T_map_cam)[:3, 3] - times * query[:3, 3])
        for answer, query in zip(answers, rendered.T_world_query)
        if answer.T_map_cam is not None
    ]
    assert len(found) >= 0.9 * len(answers) and np.median(found) < 0.02 * times
