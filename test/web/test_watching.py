"""What a store holds, read beside whoever writes it."""

import json

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot
from vggt3_ros.web.watching import Watch


def refined(store, generation, points=30):
    """A saved snapshot of all keyframes of a store."""
    poses, rng = store.poses(), np.random.default_rng(generation)
    snapshot = Snapshot(
        generation,
        poses.ids,
        poses.stamps_ns,
        poses.T_odom_cam,
        poses.T_odom_cam,
        np.tile(np.eye(6), (len(poses), 1, 1)),
        (Loop(1, 0, False, "too few matches", "place", 3),),
        PointMap(
            rng.normal(size=(points, 3)).astype(np.float32),
            rng.integers(0, 256, (points, 3), np.uint8),
            np.ones(points, np.float32),
        ),
    )
    snapshot.save(store.snapshots / f"{generation:06d}")
    return snapshot


def test_it_waits_for_the_store_then_for_a_refinement_and_sees_each_new_one(tmp_path):
    watch = Watch(tmp_path / "store")
    seen = watch.look()
    assert seen.newest is None and "no store" in seen.problem and watch.look() is None
    with KeyframeStore(tmp_path / "store") as store:  # a node's, open all the time
        for k in range(2):
            store.put(make_keyframe(k))
        seen = watch.look()
        assert (seen.stored, seen.newest) == (2, None) and "waiting" in seen.problem
        refined(store, 1)
        seen = watch.look()
        assert (seen.newest.generation, len(seen.newest.cloud)) == (1, 30)
        assert seen.cameras[1] == make_keyframe(1).camera and abs(seen.written) > 1e9
        assert watch.look() is None
        store.put(make_keyframe(2))
        refined(store, 2, points=50)
        seen = watch.look()
        assert [s.generation for s in seen.snapshots] == [1, 2] and seen.stored == 3
        assert [len(s.cloud) for s in seen.snapshots] == [0, 50]
        Snapshot.remove(store.snapshots / "000001")
        assert [s.generation for s in watch.look().snapshots] == [2]


def test_a_map_that_is_cleared_and_begun_anew_is_another_one(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        store.put(make_keyframe(0))
        refined(store, 1)
        watch = Watch(store.folder)
        assert watch.look().newest is not None
        store.clear()
        assert watch.look().newest is None
        store.put(make_keyframe(0))
        refined(store, 1, points=7)
        assert len(watch.look().newest.cloud) == 7


def test_a_store_opened_at_rest_is_seen_to_grow(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        store.put(make_keyframe(0))
    watch = Watch(tmp_path / "store")
    assert watch.look().stored == 1
    with KeyframeStore(tmp_path / "store") as store:
        store.put(make_keyframe(1))
        assert watch.look().stored == 2


def test_a_damaged_snapshot_leaves_the_older_one(tmp_path, caplog):
    with KeyframeStore(tmp_path / "store") as store:
        store.put(make_keyframe(0))
        refined(store, 1)
        refined(store, 2)
    path = tmp_path / "store" / "snapshots" / "000002" / "snapshot.json"
    path.write_text(json.dumps({"format": 2}))
    watch = Watch(tmp_path / "store")
    assert watch.look().newest.generation == 1
    assert caplog.text.count("is not a readable snapshot") == 1


def test_what_is_no_store_is_said(tmp_path):
    (tmp_path / "keyframes.db").write_bytes(b"no database" * 1000)
    seen = Watch(tmp_path).look()
    assert seen.newest is None and "keyframes.db" in seen.problem


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_written(tmp_path, count):
    with KeyframeStore(tmp_path / "store") as store:
        for k in range(count):
            store.put(make_keyframe(k))
        refined(store, 1)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*")}
    Watch(tmp_path / "store").look()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*")} == before
