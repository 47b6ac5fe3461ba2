"""Sessions in a store: beginning one is a small step, and keyframes of another store are added all
or none.
"""

import itertools
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fake_backend import Backend
from kills import killed_at_every_step
from random_keyframes import assert_same, make_keyframe

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry import se3
from vggt3_ros.store.keyframes import FIRST_ID, LOADED, KeyframeStore
from vggt3_ros.store.sessions import add_all, begin_session, drop_arrivals

CONFIG = BackendConfig()


def refine(store):
    return Backend(store, CONFIG).refine(lambda *_: None, lambda: False)


def test_keyframes_keep_their_ids_and_free_their_public_ids(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for id in (0, 1):
            store.put(make_keyframe(id, stamp_ns=1000 + id))
        store.put_cache(1, "frame", "1", b"features")
        store.note(LOADED, "somewhere")
        assert begin_session(store) == store.session == 1 and store.get_note(LOADED) is None
        assert store.ids() == [0, 1] and store.get_cache(1, "frame", "1") == b"features"
        assert (
            store.public_ids() == {0: FIRST_ID, 1: FIRST_ID + 1}
            and store.find(1) is None
            and store.next_public_id() == 0
        )
        assert_same(store.get(1), make_keyframe(1, stamp_ns=1001))
        store.put(make_keyframe(1, stamp_ns=5))
        second = store.find(1)
        assert (
            second >= FIRST_ID
            and store.ids() == [0, 1, second]
            and store.poses().sessions.tolist() == [0, 0, 1]
        )
        assert_same(replace(store.get(second), id=1), make_keyframe(1, stamp_ns=5))
        moved = replace(make_keyframe(1, stamp_ns=5), T_odom_cam=np.eye(4))
        assert store.put(moved) == "updated" and np.array_equal(
            store.get(second).T_odom_cam, np.eye(4)
        )
        store.put(make_keyframe(7, stamp_ns=6))
        assert store.ids()[-1] == store.find(7) == 7  # no other keyframe has it
        assert begin_session(store) == 2 and begin_session(store) == 3
        assert (
            len(set(store.public_ids().values())) == 4
            and min(store.public_ids().values()) >= FIRST_ID
        )
        assert store.ids() == [0, 1, second, 7]


def test_a_front_end_may_use_ids_of_the_stores_range(tmp_path):
    """Whatever 63 bits it takes: each session has names of its own, and the store never runs
    out.
    """
    ids = 2**63 - 1, FIRST_ID, FIRST_ID + 7
    with KeyframeStore(tmp_path) as store:
        for session in range(3):
            for number, id in enumerate(ids):
                assert (
                    store.put(replace(make_keyframe(0, stamp_ns=100 * session + number), id=id))
                    == "added"
                )
            assert [store.public_ids()[id] for id in store.ids()[-3:]] == list(ids)
            assert begin_session(store) == session + 1 and store.find(ids[0]) is None
        assert len(set(store.ids())) == len(set(store.public_ids().values())) == 9 and store.ids()[
            :3
        ] == list(ids)
        assert max(set(store.ids()) - set(ids)) < 2**62 + 1000


def test_a_new_session_rewrites_no_image(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for id in range(200):
            store.put(make_keyframe(id))
    with KeyframeStore(tmp_path) as store:
        images = sum(len(store.get(id).image.tobytes()) for id in store.ids())
        begin_session(store)
        assert os.path.getsize(tmp_path / "keyframes.db-wal") < images / 10


def test_a_session_killed_at_any_step_has_begun_or_has_not(tmp_path):
    """The map that is served afterwards is of the keyframes that are there, and the new run's
    keyframes are not the old one's.
    """
    with KeyframeStore(tmp_path / "refined") as store:
        for id in range(3):
            store.put(make_keyframe(id, stamp_ns=1000 + id))
        before = refine(store)
    numbers, sessions = itertools.count(), []
    for folder, _ended in killed_at_every_step(
        lambda: shutil.copytree(tmp_path / "refined", tmp_path / f"{next(numbers)}"),
        lambda folder: begin_session(KeyframeStore(folder)),
    ):
        with KeyframeStore(folder) as store:
            sessions.append(store.session)
            backend = Backend(store, CONFIG)
            assert backend.snapshot.keyframe_ids.tolist() == store.ids() == [0, 1, 2]
            assert backend.snapshot.places_odometry == (store.session == 0)
            if store.session == 0:
                begin_session(store)
            store.put(make_keyframe(0, stamp_ns=7))
            after = refine(store)
            np.testing.assert_array_equal(after.T_map_cam[:3], before.T_map_cam)
            assert after.sessions.tolist() == [0, 0, 0, 1] and after.stamps_ns[3] == 7
    assert len(sessions) > 12 and set(sessions) == {0, 1} and sessions == sorted(sessions)


@pytest.fixture
def two(tmp_path):
    """A store of three keyframes, and another of eight with something cached."""
    with KeyframeStore(tmp_path / "ours") as ours, KeyframeStore(tmp_path / "theirs") as theirs:
        for id in range(3):
            ours.put(make_keyframe(id))
        for id in range(8):
            theirs.put(make_keyframe(id, stamp_ns=50 + id))
            theirs.put_cache(id, "frame", "1", b"features %d" % id)
        yield ours, theirs


def add(ours, theirs):
    count = len(theirs)
    return add_all(
        ours,
        theirs,
        theirs.ids(),
        np.tile(se3.exp([1, 0, 0, 0, 0, 0]), (count, 1, 1)),
        [-1] * count,
        {"placed": "[-1]"},
    )


def test_keyframes_of_another_store_are_added_under_new_ids(two):
    ours, theirs = two
    new_ids = add(ours, theirs)
    assert (
        ours.ids() == [*new_ids.values(), 0, 1, 2]
        and min(new_ids.values()) >= FIRST_ID
        and ours.get_note("placed") == "[-1]"
    )
    for old, new in new_ids.items():
        assert_same(
            replace(ours.get(new), id=old, T_odom_cam=np.eye(4)),
            replace(theirs.get(old), T_odom_cam=np.eye(4)),
        )
        assert (
            ours.get_cache(new, "frame", "1") == b"features %d" % old
            and ours.public_ids()[new] == new
        )
    assert set(add(ours, theirs).values()).isdisjoint(new_ids.values())


def test_keyframes_come_in_while_others_are_added(two, monkeypatch):
    """One is taken between any two that are added, by another process's connection, which does not
    wait.
    """
    ours, theirs = two
    seen, writing = [], ours.database.writing
    with KeyframeStore(ours.folder) as intake:
        intake.database.connection.execute("PRAGMA busy_timeout=0")

        def turn(**options):
            intake.put(make_keyframe(100 + len(seen)))
            seen.append(len(intake))
            return writing(**options)

        monkeypatch.setattr(ours.database, "writing", turn)
        add(ours, theirs)
        # of those added none is seen before all are there
        assert len(seen) > len(theirs) and seen == list(range(4, 4 + len(seen)))
        assert len(intake) == 3 + len(theirs) + len(seen)


def test_adding_that_fails_or_is_killed_leaves_nothing(two, tmp_path):
    ours, theirs = two
    size = lambda store: sum(
        store.database.rows(f"SELECT count(*) FROM {table}")[0][0]
        for table in ("images", "cache", "keyframes")
    )
    before = size(ours)
    theirs.database.connection.execute("DELETE FROM images WHERE id=6")
    with pytest.raises(ValueError, match="keyframe 6"):
        add(ours, theirs)
    assert size(ours) == before and ours.ids() == [0, 1, 2]
    numbers, counts = itertools.count(), []
    ours.close()
    theirs.database.connection.execute("DELETE FROM keyframes WHERE id=6")

    def action(folder):
        with KeyframeStore(theirs.folder, read_only=True) as again:
            add(KeyframeStore(folder), again)

    for folder, _ended in killed_at_every_step(
        lambda: shutil.copytree(tmp_path / "ours", tmp_path / f"{next(numbers)}"), action, stride=7
    ):
        with KeyframeStore(folder) as store:
            counts.append(len(store))
            assert len(store.poses()) == len(store)
            drop_arrivals(store)
            assert size(store) == before + 3 * (len(store) - 3)
            assert len(add(store, theirs)) == 7
    assert len(counts) > 10 and set(counts) == {3, 10} and counts == sorted(counts)
