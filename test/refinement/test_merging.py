"""Loading a saved map: replacing is all or nothing; merging finds where the map lies, or
refuses.
"""

import itertools
import logging
import shutil
import sqlite3
from dataclasses import replace as changed

import numpy as np
import pytest
from fake_backend import Localization
from kills import killed_at_every_step
from random_keyframes import assert_same, make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.refinement import merging
from vggt3_ros.refinement.placing import LoadError
from vggt3_ros.ros.process.snapshot_shelf import SnapshotShelf
from vggt3_ros.ros.services.saving import save_map
from vggt3_ros.store.keyframes import LOADED, KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map

DRIFT = se3.exp([0.3, -0.2, 0.1, 0.02, 0.0, 0.1])  # T_map_odom of the map held
# where the saved map's frame lies in the map held
OTHER = se3.exp([4.0, -1.0, 0.5, 0.1, -0.2, 2.0])


def fill(store, keyframes, T_map_odom=np.eye(4), generation=1):
    for keyframe in keyframes:
        store.put(keyframe)
    poses = store.poses()
    snapshot = Snapshot(
        generation,
        poses.ids,
        poses.stamps_ns,
        T_map_odom @ poses.T_odom_cam,
        poses.T_odom_cam,
        np.tile(np.eye(6) * 1e-4, (len(poses), 1, 1)),
        (),
        empty_map(),
    )
    snapshot.save(store.snapshots / f"{generation:06d}")
    return snapshot


@pytest.fixture
def saved(tmp_path):
    """Twelve keyframes, refined, saved; the last one came after the refinement."""
    with KeyframeStore(tmp_path / "earlier") as store:
        snapshot = fill(
            store, [make_keyframe(id, stamp_ns=1000 + id) for id in range(11)], generation=7
        )
        store.put(make_keyframe(11, stamp_ns=1011))
        store.put_cache(3, "frame", "1", b"features")
        return save_map(store, snapshot, tmp_path / "maps", "saved")


@pytest.fixture
def held(tmp_path):
    with KeyframeStore(tmp_path / "held") as store:
        yield store, fill(store, [make_keyframe(id, stamp_ns=5000 + id) for id in range(3)], DRIFT)


def finder(saved, wrong=(), lost=()):
    """localize() that knows the saved images: where OTHER puts them, but for keyframes `wrong`
    (elsewhere) and `lost` (not found).
    """
    with KeyframeStore(saved, read_only=True) as store:
        known = {
            store.get(id).image.tobytes(): (id, store.get(id).T_odom_cam) for id in store.ids()
        }

    def localize(image, camera):
        id, pose = known[image.tobytes()]
        if id in lost:
            return Localization("not_localized", "", None, None, 0, 0.0, 1, 0.0)
        noise = (
            se3.exp(np.random.default_rng(id).normal(0, 0.01, 6))
            if id not in wrong
            else se3.exp([3.0 + id, 0, 0, 0, 0, 1.0])
        )
        return Localization("ok", "", OTHER @ pose @ noise, np.eye(6), 100, 0.5, 1, 0.0)

    return localize


def test_replacing_takes_keyframes_snapshot_cache_and_a_number_never_used(saved, held):
    store, _ = held
    loaded = merging.replace(store, saved)
    assert (loaded.generation, loaded.added) == (2, 11)
    assert (
        store.ids() == list(range(12))
        and store.get_note(LOADED) == str(saved)
        and store.get_cache(3, "frame", "1") == b"features"
    )
    assert_same(store.get(5), make_keyframe(5, stamp_ns=1005))
    assert [folder.name for folder in store.snapshots.iterdir()] == ["000002"]
    assert Snapshot.load(store.snapshots / "000002").generation == 2
    assert sorted(path.name for path in store.folder.iterdir() if path.is_dir()) == ["snapshots"]


def test_replacing_that_is_killed_at_any_step_leaves_the_old_map_or_the_new_one(
    saved, held, tmp_path
):
    """Keyframes and the map that is served belong together each time, and doing it again heals
    what is left over.
    """
    store, _ = held
    store.close()
    numbers, served = itertools.count(), []
    for folder, _ended in killed_at_every_step(
        lambda: shutil.copytree(store.folder, tmp_path / f"{next(numbers)}"),
        lambda folder: merging.replace(KeyframeStore(folder), saved),
        stride=11,
    ):
        with KeyframeStore(folder) as left:
            snapshot = SnapshotShelf(left, lambda *_: None, logging.getLogger("shelf")).current
            served.append(len(snapshot))
            assert left.ids() == ([0, 1, 2] if len(snapshot) == 3 else list(range(12)))
            np.testing.assert_array_equal(
                left.poses().T_odom_cam[: len(snapshot)], snapshot.T_odom_cam
            )
            loaded = merging.replace(left, saved)
            assert [path.name for path in left.snapshots.iterdir()] == [
                f"{loaded.generation:06d}"
            ] and left.ids() == list(range(12))
    assert len(served) > 8 and set(served) == {3, 11} and served == sorted(served)


def test_a_map_of_other_keyframes_is_not_loaded(saved, held):
    """Ids alone would fit."""
    with sqlite3.connect(saved / "keyframes.db") as database:
        database.execute("UPDATE keyframes SET stamp_ns=stamp_ns+1 WHERE id=4")
    database.close()
    with pytest.raises(LoadError, match="made from other keyframes") as error:
        merging.replace(held[0], saved)
    assert error.value.code == "unreadable" and held[0].ids() == [0, 1, 2]


def spoil_database(saved):
    (saved / "keyframes.db").write_bytes(b"something else" * 1000)


def spoil_version(saved):
    with sqlite3.connect(saved / "keyframes.db") as database:
        database.execute("PRAGMA user_version=99")


def spoil_snapshot(saved):
    next(saved.glob("snapshots/*/arrays.safetensors")).write_bytes(b"cut off")


def spoil_pages(saved):
    with open(saved / "keyframes.db", "r+b") as file:
        file.seek(30_000)
        file.write(b"\xff" * 40_000)


def remove_map(saved):
    shutil.rmtree(saved / "snapshots")


@pytest.mark.parametrize(
    "spoil, words",
    [
        (spoil_database, "keyframes.db"),
        (spoil_version, "format 99"),
        (spoil_snapshot, "snapshot"),
        (spoil_pages, "."),
        (remove_map, "no refined map"),
    ],
)
def test_a_map_that_cannot_be_read_changes_nothing(saved, held, spoil, words):
    store, snapshot = held
    spoil(saved)
    nowhere = lambda image, camera: Localization("not_localized", "", None, None, 0, 0.0, 1, 0.0)
    for load in (
        merging.replace,
        lambda store, folder: merging.merge(store, folder, snapshot, nowhere),
    ):
        with pytest.raises(ValueError, match=words):
            load(store, saved)
        assert (
            store.ids() == [0, 1, 2] and Snapshot.load(store.snapshots / "000001").generation == 1
        )


def test_merging_puts_the_saved_keyframes_where_the_localized_images_say(saved, held):
    store, snapshot = held
    loaded = merging.merge(store, saved, snapshot, finder(saved, wrong=(2, 9), lost=(4,)))
    apart = se3.log(se3.inverse(OTHER) @ loaded.T_map_loaded)
    assert np.linalg.norm(apart[:3]) < 0.02 and np.linalg.norm(apart[3:]) < 0.02
    poses = store.poses()
    assert (
        loaded.added == 12
        and len(poses) == 15
        and list(poses.ids[-3:]) == [0, 1, 2]
        and min(poses.ids[:12]) >= 2**62
    )
    np.testing.assert_allclose(
        poses.T_odom_cam[3], loaded.T_map_loaded @ make_keyframe(3).T_odom_cam, atol=1e-9
    )
    # nothing is known of the step from one run to the other
    assert poses.covariances[12][0, 0] > 1e3
    assert_same(
        changed(store.get(int(poses.ids[5])), id=5, T_odom_cam=make_keyframe(5).T_odom_cam),
        make_keyframe(5, stamp_ns=1005),
    )
    with pytest.raises(LoadError) as again:  # now the map contains them
        merging.merge(store, saved, snapshot, finder(saved))
    assert again.value.code == "conflict" and len(store) == 15


@pytest.mark.parametrize(
    "wrong, lost", [(range(3, 12), ()), ((), range(3, 12)), (range(6), range(9, 12))]
)
def test_a_map_of_another_place_is_not_merged(saved, held, wrong, lost):
    store, snapshot = held
    with pytest.raises(LoadError, match="agree on") as error:
        merging.merge(store, saved, snapshot, finder(saved, set(wrong), set(lost)))
    assert error.value.code == "not_localized" and len(store) == 3


def test_merging_needs_a_map_to_localize_in(saved, held):
    with pytest.raises(LoadError) as error:
        merging.merge(held[0], saved, None, finder(saved))
    assert error.value.code == "no_map"
