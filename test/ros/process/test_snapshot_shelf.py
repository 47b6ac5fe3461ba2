"""The snapshot in force: the newest that is of this store; what those who hear of it raise is in
the log, and the next one is heard.
"""

import logging

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros.ros.process.snapshot_shelf import SnapshotShelf
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import begin_session
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map

LOG = logging.getLogger("shelf")


@pytest.fixture
def store(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for id in range(3):
            store.put(make_keyframe(id))
        yield store


def publish(store, generation, shift_ns=0):
    poses = store.poses()
    snapshot = Snapshot(
        generation,
        poses.ids,
        poses.stamps_ns + shift_ns,
        poses.T_odom_cam,
        poses.T_odom_cam,
        np.tile(np.eye(6), (len(poses), 1, 1)),
        (),
        empty_map(),
        sessions=poses.sessions,
    )
    snapshot.save(store.snapshots / f"{generation:06d}")


def test_the_newest_that_is_of_this_store_is_in_force_in_the_session_that_runs(store, caplog):
    publish(store, 1)
    publish(store, 2)
    publish(store, 3, shift_ns=1)  # of other keyframes under the same ids
    begin_session(store)
    shelf = SnapshotShelf(store, lambda *_: None, LOG)
    assert shelf.current.generation == 2 and not shelf.current.places_odometry
    assert (
        "000003 does not belong to this store: 3 of its 3 keyframes are missing there"
        in caplog.text
    )
    with pytest.raises(ValueError, match="does not belong to this store"):
        shelf.get(3)


def test_what_a_listener_raises_is_logged_and_the_next_snapshot_is_taken_up(store, caplog):
    heard = []

    def adopted(snapshot, previous):
        heard.append((snapshot.generation, previous and previous.generation))
        if snapshot.generation == 1:
            raise RuntimeError("a listener of somebody else's")

    shelf = SnapshotShelf(store, adopted, LOG)
    for generation in (1, 2):
        publish(store, generation)
        shelf.announced(generation)
    shelf.wait(30)
    assert (
        heard == [(1, None), (2, 1)] and shelf.current.generation == 2 == shelf.get(2).generation
    )
    assert "a listener of somebody else's" in caplog.text
    shelf.close()
