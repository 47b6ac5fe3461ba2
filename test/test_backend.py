"""The back end over its life: refined again and again, cancelled, restarted, damaged, starved."""

import logging
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.features import encoding
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.refinement import merging
from vggt3_ros.refinement.placing import LoadError
from vggt3_ros.refinement.scene_scale import SceneScale
from vggt3_ros.ros.services.saving import save_map
from vggt3_ros.store.snapshot import MEMORY_FILE
from vggt3_ros.surface.fusion import fuse
from vggt3_ros.system.stages import Cancelled

QUICK = {"device": "cpu", "map.voxel_size": 0.06}


def config(**changes):
    return BackendConfig.from_flat(
        QUICK | {name.replace("__", "."): value for name, value in changes.items()}
    )


@pytest.fixture
def store(refined_copy):
    """28 keyframes with their features, refined once."""
    with KeyframeStore(refined_copy) as store:
        yield store


@pytest.fixture
def empty(tmp_path):
    with KeyframeStore(tmp_path / "empty") as store:
        yield store


def pairs(snapshot):
    return [(loop.source_id, loop.target_id) for loop in snapshot.loops]


def count_calls(monkeypatch, thing, name):
    calls, original = [], getattr(thing, name)

    def counted(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(thing, name, counted)
    return calls


def test_refining_again_with_more_keyframes_tries_only_new_pairs(empty, rendered, monkeypatch):
    backend = Backend(empty, config())
    encoded = count_calls(monkeypatch, backend.encoder, "encode_many")
    for keyframe in rendered.keyframes[:10]:
        assert backend.add(keyframe) == "added"
    first = backend.refine()
    assert (first.generation, len(first), len(encoded)) == (1, 10, 10)
    for keyframe in rendered.keyframes[10:14]:
        backend.add(keyframe)
    second = backend.refine()
    assert (second.generation, len(second), len(encoded)) == (2, 14, 14)
    assert backend.snapshot is second and second.keyframe_ids.tolist() == list(range(14))
    assert len(pairs(second)) == len(set(pairs(second))) and set(pairs(first)) < set(pairs(second))
    kept = {(loop.source_id, loop.target_id): loop for loop in second.loops}
    for loop in first.loops:
        again = kept[loop.source_id, loop.target_id]
        assert (again.origin, again.inliers) == (loop.origin, loop.inliers)
        if loop.accepted and again.accepted:
            assert np.array_equal(again.T_source_target, loop.T_source_target)
    assert any(loop.accepted and loop.source_id >= 10 for loop in second.loops)
    assert len(first.loops) and len(first) == 10  # what was published stays as it was


def test_nothing_new_changes_nothing_but_the_generation(store, rendered, monkeypatch):
    backend = Backend(store, config(resources__frame_cache_mb=16))
    encoded = count_calls(monkeypatch, backend.encoder, "encode_many")
    before = backend.snapshot
    after = backend.refine()
    assert encoded == []  # the store keeps features, even when memory does not
    assert after.generation == before.generation + 1
    np.testing.assert_allclose(after.T_map_cam, before.T_map_cam, atol=0.01)
    assert set(pairs(before)) <= set(pairs(after))


def test_features_of_known_keyframes_are_read_for_their_pairs_only(store, rendered, monkeypatch):
    with KeyframeStore(store.folder.with_name("more")) as more:
        backend = Backend(more, config(loops__pairs_per_keyframe=1, loops__place_candidates=0))
        monkeypatch.setattr(backend.keeper, "update", lambda *args: None)
        # these two examine a fixed number of keyframes: why there is no memory, how large the scene is
        monkeypatch.setattr("vggt3_ros.backend.why_all_empty", lambda *args: [])
        monkeypatch.setattr("vggt3_ros.backend.scene_scale", lambda *args: SceneScale(1.0, 2.0))
        for keyframe in rendered.keyframes[:26]:
            backend.add(keyframe)
        backend.refine()
        backend.add(rendered.keyframes[26])
        backend.refine()
        read = count_calls(monkeypatch, backend.frames.store, "get_cache")
        backend.frames.clear()
        backend.add(rendered.keyframes[27])
        snapshot = backend.refine()
    asked = {args[0] for args in read if args[1] == "frame"}
    partners = {
        id
        for loop in snapshot.loops
        for id in (loop.source_id, loop.target_id)
        if loop.source_id == 27
    }
    assert 27 in asked | partners and len(partners) < 10
    assert asked <= partners


def closeness(cloud, other, voxel):
    """Shares of the points of each that lie within a voxel of the other's."""
    return [
        np.mean(cKDTree(b.points).query(a.points)[0] < voxel)
        for a, b in ((cloud, other), (other, cloud))
    ]


def test_odometry_in_coordinates_of_a_country_gives_the_same_map_there(rendered, tmp_path):
    """Poses, map, memory and localization of a front end that has GPS (UTM)."""
    offset, scenes = np.array([500_000.0, 4_600_000.0, 102.0]), []  # whole voxels
    for name, moved in (("here", np.zeros(3)), ("there", offset)):
        with KeyframeStore(tmp_path / name) as store, closing(Backend(store, config())) as backend:
            for keyframe in rendered.keyframes[:8]:
                backend.add(replace(keyframe, T_odom_cam=shifted(keyframe.T_odom_cam, moved)))
            refined = backend.refine()
            query = rendered.keyframes[5]
            scenes.append(
                (
                    backend.snapshot,
                    refined,
                    [
                        backend.localize(query.image, query.camera, verify=verify)
                        for verify in (True, False)
                    ],
                )
            )
    (here, _, found_here), (there, refined, found_there) = scenes
    np.testing.assert_allclose(shifted(there.T_map_cam, -offset), here.T_map_cam, atol=2e-3)
    assert len(there.cloud) == pytest.approx(len(here.cloud), rel=0.03)
    assert np.median(cKDTree(here.cloud.points).query(refined.cloud.points - offset)[0]) < 0.01
    assert there.report["memory_error_m"] == pytest.approx(
        here.report["memory_error_m"], abs=0.01, nan_ok=True
    )
    for a, b in zip(found_here, found_there):
        assert a.code == b.code == "ok"
        np.testing.assert_allclose(shifted(b.T_map_cam, -offset), a.T_map_cam, atol=0.02)


def test_a_map_grown_step_by_step_is_that_of_all_at_once(empty, rendered, tmp_path, monkeypatch):
    """Also where a refinement was cancelled on the way, a known pose was sent anew, and the back
    end was restarted.
    """
    backend = Backend(empty, config())
    fused = count_calls(monkeypatch, empty, "get")
    for first, last in ((0, 12), (12, 18), (18, 23)):
        for keyframe in rendered.keyframes[first:last]:
            backend.add(keyframe)
        if first == 12:
            reached = []
            with pytest.raises(Cancelled, match="fusion"):
                backend.refine(
                    lambda phase, fraction: reached.append((phase, fraction)),
                    lambda: reached and reached[-1][0] == "fusion" and reached[-1][1] > 0.3,
                )
            backend.add(
                replace(
                    rendered.keyframes[4],
                    T_odom_cam=rendered.keyframes[4].T_odom_cam @ se3.exp([0.01, 0, 0, 0, 0, 0]),
                )
            )
        fused.clear()
        grown = backend.refine()
    assert len(fused) < 23
    backend = Backend(empty, config())  # restarted
    for keyframe in (*rendered.keyframes[23:26], rendered.keyframes[4]):
        backend.add(keyframe)
    grown = backend.refine()
    with KeyframeStore(tmp_path / "at_once") as store:
        other = Backend(store, config())
        for keyframe in rendered.keyframes[:26]:
            other.add(keyframe)
        at_once = other.refine()
    apart = se3.inverse(at_once.T_map_cam) @ grown.T_map_cam
    assert np.linalg.norm(apart[:, :3, 3], axis=1).max() < 0.01 and se3.rotation_angle(
        apart
    ).max() < np.radians(0.3)
    exact = fuse(rendered.keyframes[:26], grown.T_map_cam, backend.config.map)
    assert min(closeness(grown.cloud, exact, 0.02)) > 0.99 and len(grown.cloud) == pytest.approx(
        len(exact), rel=0.02
    )
    assert min(closeness(grown.cloud, at_once.cloud, 0.06)) > 0.99


def test_stages_are_told_and_timed_and_the_report_counts(store):
    told = []
    snapshot = Backend(store, config()).refine(
        progress=lambda phase, fraction: told.append((phase, fraction))
    )
    phases = list(dict.fromkeys(phase for phase, _ in told))
    assert phases[0] == "features" and {"loops", "fusion", "memory"} <= set(phases)
    assert all(0 <= fraction <= 1 for _, fraction in told)
    assert {"features", "loops", "pose_graph", "fusion", "memory", "total"} <= set(
        snapshot.seconds
    )
    accepted = sum(loop.accepted for loop in snapshot.loops)
    assert (
        snapshot.report["loops_accepted"] == accepted
        and snapshot.report["loops_rejected"] == len(snapshot.loops) - accepted
    )
    assert (
        snapshot.report["keyframes"] == 28
        and snapshot.report["points"] == len(snapshot.cloud) > 5000
    )


def test_cancelling_in_any_stage_leaves_the_last_snapshot_and_the_next_refinement_works(store):
    backend = Backend(store, config())
    before, files = backend.snapshot, sorted(p.name for p in store.snapshots.iterdir())
    for stage in ("features", "loops", "fusion", "memory"):
        reached = []
        with pytest.raises(Cancelled, match=stage):
            backend.refine(lambda phase, fraction: reached.append(phase), lambda: stage in reached)
        assert backend.snapshot is before
        assert sorted(p.name for p in store.snapshots.iterdir()) == files
    assert backend.refine().generation == before.generation + 1


def test_a_first_refinement_that_is_cancelled_leaves_no_map(empty, rendered):
    backend = Backend(empty, config())
    backend.add(rendered.keyframes[0])
    with pytest.raises(Cancelled):
        backend.refine(cancelled=lambda: True)
    assert (
        backend.snapshot is None
        and backend.localize(rendered.queries[0], rendered.camera).code == "no_map"
    )
    assert backend.refine().generation == 1


def test_a_restart_serves_the_last_snapshot_with_the_same_answers(store, rendered):
    first = Backend(store, config())
    before = [first.localize(image, rendered.camera) for image in rendered.queries[:4]]
    with KeyframeStore(store.snapshots.parent) as reopened:
        second = Backend(reopened, config())
        assert second.snapshot.generation == first.snapshot.generation == 1
        np.testing.assert_array_equal(second.snapshot.T_map_cam, first.snapshot.T_map_cam)
        after = [second.localize(image, rendered.camera) for image in rendered.queries[:4]]
    assert "ok" in [answer.code for answer in before]
    for a, b in zip(before, after):
        assert a.code == b.code
        if a.code == "ok":
            np.testing.assert_allclose(a.T_map_cam, b.T_map_cam, atol=1e-4)


def test_a_restart_in_the_middle_goes_on_from_there(store, rendered):
    Backend(store, config()).refine()
    assert Backend(store, config()).refine().generation == 3


def test_old_snapshots_are_removed(store):
    backend = Backend(store, config(resources__snapshots_kept=2))
    for _ in range(2):
        backend.refine()
    assert sorted(p.name for p in store.snapshots.iterdir()) == ["000002", "000003"]


def test_a_corrected_odometry_pose_changes_the_next_result(store, rendered):
    """The front end closed a loop of its own and sends every pose anew, in a frame moved by
    `shift`.
    """
    shift = se3.exp([1.0, -2.0, 0.5, 0, 0, 0.7])
    backend = Backend(store, config())
    before = backend.snapshot
    for keyframe in rendered.keyframes:
        assert backend.add(replace(keyframe, T_odom_cam=shift @ keyframe.T_odom_cam)) == "updated"
    after = backend.refine()
    np.testing.assert_allclose(after.T_odom_cam, shift @ before.T_odom_cam, atol=1e-9)
    np.testing.assert_allclose(after.T_map_cam, shift @ before.T_map_cam, atol=0.03)


def test_one_moved_keyframe_moves_where_poses_are_fixed(store, rendered):
    backend = Backend(store, config(fixed_poses=True))
    moved = replace(
        rendered.keyframes[5],
        T_odom_cam=rendered.keyframes[5].T_odom_cam @ se3.exp([0.2, 0, 0, 0, 0.1, 0]),
    )
    backend.add(moved)
    snapshot = backend.refine()
    np.testing.assert_allclose(snapshot.T_map_cam[5], moved.T_odom_cam, atol=1e-9)
    others = np.arange(28) != 5
    np.testing.assert_allclose(snapshot.T_map_cam[others], rendered.T_odom_cam[others], atol=1e-9)
    assert np.linalg.eigvalsh(snapshot.covariances).min() > 0 and len(snapshot.cloud) > 5000


def test_keyframes_without_depth_make_poses_without_a_map(empty, rendered):
    backend = Backend(empty, config(depth__estimate="never"))
    for keyframe in rendered.keyframes[:12]:
        backend.add(replace(keyframe, depth=None))
    snapshot = backend.refine()
    assert len(snapshot) == 12 and len(snapshot.cloud) == 0
    np.testing.assert_allclose(snapshot.T_map_cam, rendered.T_odom_cam[:12], atol=0.05)
    for verify in (True, False):
        answer = backend.localize(rendered.queries[0], rendered.camera, verify=verify)
        assert answer.code == "not_localized" and answer.message
    assert backend.distil(0.1) is None
    assert backend.refine().generation == 2
    assert Backend(empty, config(depth__estimate="never")).snapshot.generation == 2


def test_some_keyframes_without_depth_are_no_obstacle(empty, rendered):
    backend = Backend(empty, config(map__minimum_weight=1.0))  # what one of the four sees counts
    for keyframe in rendered.keyframes[:8]:
        backend.add(keyframe if keyframe.id % 2 else replace(keyframe, depth=None))
    snapshot = backend.refine()
    assert (
        len(snapshot) == 8
        and len(snapshot.cloud) > 500
        and any(loop.accepted for loop in snapshot.loops)
    )


def test_blank_keyframes_and_depth_out_of_reach_are_no_obstacle(empty, rendered):
    backend = Backend(empty, config())
    blank = np.full_like(rendered.keyframes[0].image, 128)
    far = np.full_like(rendered.keyframes[0].depth, 60.0)
    for keyframe in rendered.keyframes[:6]:
        backend.add(replace(keyframe, image=blank, depth=far))
    snapshot = backend.refine()
    assert len(snapshot.cloud) == 0 and not any(loop.accepted for loop in snapshot.loops)
    assert backend.localize(rendered.queries[0], rendered.camera).code == "not_localized"


def _truncate(path):
    data = path.read_bytes()
    path.unlink()  # a memory that did not change is the same file in both snapshots
    path.write_bytes(data[:-2000])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _truncate(folder / "arrays.safetensors"),
        lambda folder: _truncate(folder / MEMORY_FILE),
        lambda folder: (folder / "snapshot.json").write_text("{"),
    ],
)
def test_a_damaged_snapshot_gives_way_to_the_older_one(store, rendered, caplog, damage):
    Backend(store, config()).refine()
    damage(store.snapshots / "000002")
    with caplog.at_level(logging.WARNING):
        backend = Backend(store, config())
    assert backend.snapshot.generation == 1
    assert any("000002" in record.getMessage() for record in caplog.records)
    newer = backend.refine()
    assert newer.generation >= 2
    assert Backend(store, config()).snapshot.generation == newer.generation


def test_when_all_snapshots_are_damaged_refining_starts_anew(store, rendered):
    shutil.rmtree(store.snapshots / "000001")
    (store.snapshots / "000001").mkdir()
    backend = Backend(store, config())
    assert (
        backend.snapshot is None
        and backend.localize(rendered.queries[0], rendered.camera).code == "no_map"
    )
    backend.refine()
    assert Backend(store, config()).snapshot.report["keyframes"] == 28


def test_there_must_be_something_to_refine(empty):
    backend = Backend(empty, config())
    with pytest.raises(ValueError, match="no keyframes"):
        backend.refine()
    assert backend.snapshot is None and backend.distil(0.1) is None


@pytest.mark.parametrize("count", [1, 2])
def test_one_keyframe_or_two_make_a_map(empty, rendered, count):
    backend = Backend(empty, config())
    for keyframe in rendered.keyframes[:count]:
        backend.add(keyframe)
    snapshot = backend.refine()
    assert (
        len(snapshot) == count
        and np.isfinite(snapshot.T_map_cam).all()
        and np.linalg.eigvalsh(snapshot.covariances).min() > 0
    )
    answer = backend.localize(rendered.keyframes[0].image, rendered.camera)
    assert (
        answer.code == "ok"
        and np.linalg.norm((se3.inverse(snapshot.T_map_cam[0]) @ answer.T_map_cam)[:3, 3]) < 0.03
    )


def test_idle_distillation_publishes_what_gained_and_stops(store, rendered):
    """A stretch of it either betters the memory, or publishes nothing."""
    backend = Backend(store, config())
    for _ in range(10):
        before, files = backend.snapshot, sorted(p.name for p in store.snapshots.iterdir())
        better = backend.distil(1.0)
        if better is None:
            assert (
                backend.snapshot is before
                and sorted(p.name for p in store.snapshots.iterdir()) == files
            )
            break
        assert better.generation == before.generation + 1 and backend.snapshot is better
        np.testing.assert_array_equal(better.T_map_cam, before.T_map_cam)
        assert Backend(store, config()).snapshot.generation == better.generation
    for _ in range(20):
        if backend.distil(0.3) is None and backend.distil(0.3) is None:
            break
    assert backend.distil(0.3) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_idle_distillation_without_any_time_left_ends_at_once(store, seconds):
    """As for a deadline that passed just now."""
    backend, steps = Backend(store, config()), []
    assert (
        backend.distil(seconds, cancelled=lambda: len(steps) > 3 or steps.append(1)) is None
        and not steps
    )


def test_idle_distillation_can_be_cancelled(store):
    backend = Backend(store, config())
    before = backend.snapshot
    with pytest.raises(Cancelled):
        backend.distil(60.0, cancelled=lambda: True)
    assert backend.snapshot is before


def test_an_unknown_device_is_refused_by_name(empty):
    with pytest.raises(ValueError, match="device 'tpu9000'"):
        Backend(empty, BackendConfig(device="tpu9000"))


def test_keyframes_encoded_many_at_once_make_the_same_map(rendered, tmp_path, monkeypatch):
    """As on a GPU, with one keyframe among them that cannot be read."""

    def refined(name):
        folder = tmp_path / name
        with KeyframeStore(folder) as store:
            for keyframe in rendered.keyframes[:9]:
                store.put(keyframe)
        with closing(sqlite3.connect(folder / "keyframes.db")) as database, database:
            database.execute("DELETE FROM images WHERE id = ?", (rendered.keyframes[4].id,))
        with KeyframeStore(folder) as store, closing(Backend(store, config())) as backend:
            return backend.refine()

    alone = refined("alone")
    monkeypatch.setitem(encoding.AT_ONCE, "cpu", 4)
    together = refined("together")
    assert (
        together.keyframe_ids.tolist() == alone.keyframe_ids.tolist()
        and len(alone.keyframe_ids) == 8
    )
    np.testing.assert_allclose(together.T_map_cam, alone.T_map_cam, atol=1e-6)


def test_a_map_without_images_localizes_and_says_that_it_cannot_be_refined(
    store, rendered, tmp_path
):
    with_images = Backend(store, config())
    folder = save_map(store, with_images.snapshot, tmp_path / "maps", "shipped", images=False)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert (
        size < 4e6 < sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    )
    with KeyframeStore(tmp_path / "robot") as robot:
        assert merging.replace(robot, folder).added == 28
        backend = Backend(robot, config())
        assert (
            not robot.has_images
            and len(backend.snapshot) == 28
            and len(backend.snapshot.cloud) == 0
        )
        for image in rendered.queries[:4]:
            before, after = (
                with_images.localize(image, rendered.camera, verify=False),
                backend.localize(image, rendered.camera),
            )
            assert (before.code, after.code, after.verified) == ("ok", "ok", False)
            np.testing.assert_allclose(after.T_map_cam, before.T_map_cam, atol=0.01)
        assert backend.distil(1.0) is None
        with pytest.raises(ValueError, match="saved without images"):
            backend.refine()
        assert len(Backend(robot, config()).snapshot) == 28
    for bytes_of_an_image in (
        store.database.rows("SELECT image FROM images LIMIT 1")[0][0][2000:2064],
    ):
        assert not any(
            bytes_of_an_image in path.read_bytes() for path in folder.rglob("*") if path.is_file()
        )
    with pytest.raises(LoadError, match="without images"):
        merging.merge(store, folder, with_images.snapshot, with_images.localize)
