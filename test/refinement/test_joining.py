"""Maps without images are joined by their scene memories alone; what does not belong together is
refused.
"""

import itertools
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from kills import killed_at_every_step

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.geometry import se3
from vggt3_ros.memory.views import view
from vggt3_ros.refinement import merging, uniting
from vggt3_ros.refinement.placing import LoadError
from vggt3_ros.ros.services.saving import save_map
from vggt3_ros.store.keyframes import FIRST_ID, KeyframeStore

START = se3.exp([2.0, -1.0, 0.3, 0.05, -0.02, 0.8])  # where the second run's odometry begins
LATER = 3600 * 10**9
QUICK = BackendConfig.from_flat({"device": "cpu", "map.voxel_size": 0.1, "fixed_poses": True})


def keep(folder, keyframes, poses):
    """A saved map of keyframes at poses that are true, without images, and the same with them."""
    with KeyframeStore(folder / "store") as store, closing(Backend(store, QUICK)) as backend:
        for k, (keyframe, pose) in enumerate(zip(keyframes, poses)):
            backend.add(replace(keyframe, id=k, T_odom_cam=pose))
        snapshot = backend.refine()
        return [
            save_map(store, snapshot, folder, name, images)
            for name, images in (("shipped", False), ("whole", True))
        ]


@pytest.fixture(scope="module")
def maps(rendered, tmp_path_factory):
    """Folders of two maps, of every other keyframe each, and of the second with its images; it has
    a frame of its own.
    """
    of = lambda name, at, T, later: keep(
        tmp_path_factory.mktemp(name),
        [replace(k, stamp_ns=k.stamp_ns + later) for k in rendered.keyframes[at::2]],
        T @ rendered.T_world_cam[at::2],
    )
    return of("first", 0, np.eye(4), 0)[0], *of("second", 1, START, LATER)


@pytest.fixture
def served(maps, tmp_path):
    """A robot's store that serves the first."""
    with KeyframeStore(tmp_path / "robot") as store:
        merging.replace(store, maps[0])
        yield store


def test_a_view_of_a_memory_is_what_its_keyframe_saw(maps, rendered):
    with KeyframeStore(maps[0], read_only=True) as store:
        memory = Backend(store, QUICK)._scenes.memory
    frame = view(memory, rendered.camera, rendered.T_world_cam[4])
    points = se3.transform_points(se3.inverse(rendered.T_world_cam[4]), memory.map_points)
    nearest = np.linalg.norm(
        frame.features.keypoints[:, None]
        - rendered.camera.project(points[points[:, 2] > 0.1])[None],
        axis=2,
    ).min(1)
    assert len(frame.features.keypoints) > 300 and nearest.max() < 1e-2
    assert frame.features.dense.shape[1:] == (
        rendered.camera.height // 8,
        rendered.camera.width // 8,
    )
    assert (
        len(view(memory, rendered.camera, se3.exp([500.0, 0, 0, 0, 0, 0])).features.keypoints) == 0
    )


def test_two_maps_without_images_become_one(maps, served, rendered):
    alone = Backend(served, QUICK)
    loaded = alone.join(maps[1])
    assert loaded.added == 14 and loaded.generation == alone.snapshot.generation + 1
    apart = START @ loaded.T_map_loaded
    assert np.linalg.norm(apart[:3, 3]) < 0.01 and se3.rotation_angle(apart) < 0.003
    both = Backend(served, QUICK)
    assert (
        len(both.snapshot) == 28
        and len(served) == 28
        and both.snapshot.generation == loaded.generation
    )
    assert (
        both.snapshot.keyframe_ids[:14].min() >= FIRST_ID
        and (both.snapshot.sessions[:14] == -1).all()
        and both.snapshot.session == 0
    )
    np.testing.assert_allclose(both.snapshot.T_map_cam[:14], rendered.T_world_cam[1::2], atol=0.01)
    np.testing.assert_array_equal(both.snapshot.T_map_cam[14:], alone.snapshot.T_map_cam)
    errors, found = [], [0, 0]
    for image, truth in zip(rendered.queries, rendered.T_world_query):
        before, after = (backend.localize(image, rendered.camera) for backend in (alone, both))
        found = np.add(found, (before.code == "ok", after.code == "ok"))
        if after.code == "ok":
            errors.append(np.linalg.norm(after.T_map_cam[:3, 3] - truth[:3, 3]))
    assert found[1] >= found[0] and found[1] >= 12 and np.median(errors) < 0.01


def test_nothing_that_shows_the_place_is_left(maps, served):
    Backend(served, QUICK).join(maps[1])
    both = Backend(served, QUICK)
    assert (
        not served.has_images
        and len(both.snapshot.cloud) == 0
        and len(list(served.snapshots.iterdir())) == 1
    )
    with pytest.raises(ValueError, match="without images"):
        both.refine()


def test_the_same_map_is_joined_once(maps, served):
    Backend(served, QUICK).join(maps[1])
    for folder in maps:
        with pytest.raises(LoadError, match="already contains") as error:
            Backend(served, QUICK).join(folder)
        assert error.value.code == "conflict"


def test_another_home_with_the_same_pictures_on_its_walls_is_not_joined(served, tmp_path):
    home = apartment.twin_rooms(keyframes=12, camera=apartment.CAMERA.scaled(320, 240))
    other, _ = keep(tmp_path, home.keyframes, home.groundtruth)
    with pytest.raises(LoadError, match="do both maps show the same place") as error:
        Backend(served, QUICK).join(other)
    assert error.value.code == "not_localized" and len(
        Backend(served, QUICK).snapshot
    ) == 14 == len(served)


def test_joining_that_is_killed_at_any_step_leaves_the_old_map_or_both(maps, served, tmp_path):
    served.close()
    numbers, kept = itertools.count(), []
    for folder, _ended in killed_at_every_step(
        lambda: shutil.copytree(served.folder, tmp_path / f"{next(numbers)}"),
        lambda folder: _joined(folder, maps[1]),
        stride=60,
    ):
        with KeyframeStore(folder) as left:
            snapshot = Backend(left, QUICK).snapshot
            kept.append(len(snapshot))
            assert len(left) == len(snapshot)
            if len(snapshot) == 14:
                Backend(left, QUICK).join(maps[1])
            assert len(Backend(left, QUICK).snapshot) == 28
    assert len(kept) > 2 and set(kept) == {14, 28} and kept == sorted(kept)


def _joined(folder, other):
    torch.set_num_threads(1)  # those of the process that was forked are not here
    with KeyframeStore(folder) as store:
        Backend(store, QUICK).join(other)


def test_maps_with_and_without_images_are_united_without(maps, tmp_path):
    first, _, whole = maps
    snapshot, merged = uniting.unite(
        [whole, first], tmp_path / "all", lambda store: Backend(store, QUICK), lambda *_: None
    )
    assert len(snapshot) == 28 and merged[0][1].added == 14 and len(snapshot.cloud) == 0
    with KeyframeStore(tmp_path / "all", read_only=True) as store:
        assert not store.has_images and len(store) == 28
    with KeyframeStore(whole, read_only=True) as store:
        assert store.has_images


def test_a_map_that_is_refined_with_images_takes_none_without(maps, refined_copy):
    with KeyframeStore(refined_copy) as store:
        backend = Backend(store, QUICK)
        with pytest.raises(LoadError, match="vggt3 merge") as error:
            merging.merge(store, maps[1], backend.snapshot, backend.localize)
        assert error.value.code == "conflict"
