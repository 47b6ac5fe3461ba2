"""The keyframe store: acknowledged keyframes survive any kill, and foreign files are never
overwritten.
"""

import logging
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from folders import SUPPORT
from random_keyframes import CAMERA, assert_same, make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.ros.process.snapshot_shelf import SnapshotShelf
from vggt3_ros.store.database import StoreError
from vggt3_ros.store.keyframes import DamagedKeyframe, KeyframeStore
from vggt3_ros.store.sessions import replace_all
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map


@pytest.mark.parametrize("depth", [None, "millimetres", "float"])
def test_a_keyframe_comes_back_bit_for_bit(tmp_path, depth):
    keyframe = make_keyframe(7, depth=depth)
    with KeyframeStore(tmp_path) as store:
        assert store.put(keyframe) == "added"
    with KeyframeStore(tmp_path) as store:
        assert_same(store.get(7), keyframe)
        assert store.camera(7) == CAMERA


def test_keeps_a_received_jpeg_as_it_is(tmp_path):
    keyframe = make_keyframe(1)
    jpeg = cv2.imencode(".jpg", keyframe.image[..., ::-1])[1].tobytes()
    decoded = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    with KeyframeStore(tmp_path) as store:
        store.put(replace(keyframe, image=decoded), jpeg, "jpeg")
        np.testing.assert_array_equal(store.get(1).image, decoded)
    with sqlite3.connect(tmp_path / "keyframes.db") as database:
        assert database.execute("SELECT image FROM images").fetchone() == (jpeg,)


def test_refuses_encoded_bytes_that_are_no_image(tmp_path):
    with KeyframeStore(tmp_path) as store:
        with pytest.raises(ValueError, match="neither JPEG nor PNG"):
            store.put(make_keyframe(1), b"GIF89a", "gif")
        assert len(store) == 0


def test_a_known_id_updates_the_pose_and_another_stamp_is_refused(tmp_path):
    first = make_keyframe(3)
    moved = replace(first, T_odom_cam=se3.exp([1, 2, 3, 0.1, 0.2, 0.3]), odometry_covariance=None)
    with KeyframeStore(tmp_path) as store:
        store.put(first)
        revision = store.revision()
        assert store.put(moved) == "updated"
        assert store.revision() > revision and len(store) == 1
        assert_same(store.get(3), replace(moved, odometry_covariance=first.odometry_covariance))
        with pytest.raises(ValueError, match="stamp_ns"):
            store.put(replace(first, stamp_ns=first.stamp_ns + 1))
        assert_same(store.get(3), replace(moved, odometry_covariance=first.odometry_covariance))


def test_orders_by_stamp_and_lists_poses_without_images(tmp_path):
    with KeyframeStore(tmp_path) as store:
        frames = {id: make_keyframe(id, stamp_ns=1000 - id) for id in (5, 2, 9)}
        frames[2] = replace(frames[2], odometry_covariance=None)
        for frame in frames.values():
            store.put(frame)
        poses = store.poses()
        assert store.ids() == [9, 5, 2] == poses.ids.tolist()
        assert poses.stamps_ns.tolist() == [991, 995, 998]
        np.testing.assert_allclose(poses.T_odom_cam[1], frames[5].T_odom_cam)
        assert poses.covariances[2] is None and poses.covariances[0].shape == (6, 6)
        with pytest.raises(KeyError, match="no keyframe 4"):
            store.get(4)


def test_an_empty_store_lists_nothing(tmp_path):
    with KeyframeStore(tmp_path) as store:
        assert (
            store.ids() == [] and len(store) == 0 and store.poses().T_odom_cam.shape == (0, 4, 4)
        )


def test_cache_is_kept_by_version_and_goes_with_its_keyframe(tmp_path):
    with KeyframeStore(tmp_path) as store, KeyframeStore(tmp_path) as other:
        store.put(make_keyframe(1))
        other.put_cache(1, "xfeat", 2, b"features")
        assert store.get_cache(1, "xfeat", 2) == b"features"
        assert store.get_cache(1, "xfeat", 3) is None and store.get_cache(1, "vlad", 2) is None
        store.put_cache(1, "xfeat", 3, b"newer")
        assert store.get_cache(1, "xfeat", 2) is None
        with pytest.raises(KeyError, match="no keyframe 8"):
            store.put_cache(8, "xfeat", 1, b"")
        store.snapshots.mkdir()
        revision = store.revision()
        store.clear()
        assert (
            other.get_cache(1, "xfeat", 3) is None
            and len(other) == 0
            and other.revision() > revision
        )
        assert not store.snapshots.exists()
        assert store.put(make_keyframe(1)) == "added"


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from random_keyframes import make_keyframe
from vggt3_ros.store.keyframes import KeyframeStore
store = KeyframeStore(sys.argv[1])
for id in range(int(sys.argv[3]) if len(sys.argv) > 3 else len(store), 10_000):
    store.put(make_keyframe(id))
    print(id, flush=True)
"""


def test_every_acknowledged_keyframe_survives_sigkill(tmp_path):
    acknowledged = -1
    for wait in (0.05, 0.11, 0.17):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(SUPPORT)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].split("\n")[:-1]
        acknowledged = int(lines[-1])
    with KeyframeStore(tmp_path) as store:
        assert acknowledged > 10
        assert set(range(acknowledged + 1)) <= set(store.ids()) <= set(range(acknowledged + 2))
        for id in (0, acknowledged // 2, acknowledged):
            assert_same(store.get(id), make_keyframe(id))


def test_threads_and_a_second_process_share_a_store(tmp_path):
    with KeyframeStore(tmp_path) as store:
        store.put(make_keyframe(0))
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                WRITER.replace("10_000", "60"),
                str(tmp_path),
                str(SUPPORT),
                "1",
            ],
            stdout=subprocess.PIPE,
        )
        failures = []

        def write(first):
            try:
                for id in range(first, first + 30):
                    store.put(make_keyframe(id))
                    store.put_cache(id, "name", 1, b"x" * 100_000)
                    assert_same(store.get(id), make_keyframe(id))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(first,)) for first in (1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.communicate()
        assert not failures and process.returncode == 0
        assert store.ids() == list(range(60)) + list(range(1000, 1030)) + list(range(2000, 2030))


def test_foreign_corrupt_and_newer_databases_are_left_alone(tmp_path):
    foreign, text, newer = tmp_path / "foreign", tmp_path / "text", tmp_path / "newer"
    for folder in (foreign, text):
        folder.mkdir()
    with sqlite3.connect(foreign / "keyframes.db") as database:
        database.execute("CREATE TABLE precious (x)")
    (text / "keyframes.db").write_bytes(b"not a database at all " * 100)
    KeyframeStore(newer).close()
    with sqlite3.connect(newer / "keyframes.db") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    for folder, message in (
        (foreign, "another program"),
        (text, "not a database"),
        (newer, "format 99"),
    ):
        before = (folder / "keyframes.db").read_bytes()
        with pytest.raises(StoreError, match=message):
            KeyframeStore(folder)
        assert (folder / "keyframes.db").read_bytes() == before


def test_a_damaged_file_is_named_not_returned(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for id in range(30):
            store.put(make_keyframe(id))
    path = tmp_path / "keyframes.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with (
        pytest.raises(StoreError, match="keyframes.db|keyframe store"),
        KeyframeStore(tmp_path) as store,
    ):
        for id in store.ids():
            store.get(id)


def test_read_only_reads_while_another_writes_and_never_creates(tmp_path):
    with pytest.raises(StoreError):
        KeyframeStore(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    with KeyframeStore(tmp_path) as store:
        store.put(make_keyframe(0))
        with KeyframeStore(tmp_path, read_only=True) as reader:
            store.put(make_keyframe(1))
            assert reader.ids() == [0, 1]
            with pytest.raises(StoreError, match="readonly"):
                reader.put(make_keyframe(2))
    with KeyframeStore(tmp_path, read_only=True) as reader:
        assert_same(reader.get(1), make_keyframe(1))


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path):
    with KeyframeStore(tmp_path) as store:
        store.put(make_keyframe(0))
        (pages,) = store.database.connection.execute("PRAGMA page_count").fetchone()
        store.database.connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match="full"):
            for id in range(1, 20):
                store.put(make_keyframe(id))
        store.database.connection.execute("PRAGMA max_page_count=1000000")
        store.put(make_keyframe(50))
        assert_same(store.get(0), make_keyframe(0))
        assert 50 in store


def test_a_keyframe_without_its_image_is_damaged_and_not_loaded(tmp_path):
    with KeyframeStore(tmp_path / "saved") as saved:
        for number in (1, 2):
            saved.put(make_keyframe(number))
    with sqlite3.connect(tmp_path / "saved" / "keyframes.db") as database:
        database.execute("DELETE FROM images WHERE id=2")
    with KeyframeStore(tmp_path / "saved") as saved, KeyframeStore(tmp_path / "ours") as ours:
        assert saved.get(1).id == 1
        with pytest.raises(DamagedKeyframe, match="keyframe 2 .* image"):
            saved.get(2)
        with pytest.raises(StoreError, match="keyframe 2"):
            replace_all(ours, saved, np.array([np.eye(4)] * 2), [0, 0], {})
        assert ours.ids() == []


def test_a_snapshot_of_keyframes_that_are_not_held_is_not_served(tmp_path):
    """As a kill left it that came while a store was cleared: ids of then stand for keyframes of
    now.
    """
    with KeyframeStore(tmp_path) as store:
        for id in range(3):
            store.put(make_keyframe(id, stamp_ns=100 + id))
        Snapshot(
            1,
            store.poses().ids,
            store.poses().stamps_ns,
            store.poses().T_odom_cam,
            store.poses().T_odom_cam,
            np.tile(np.eye(6), (3, 1, 1)),
            (),
            empty_map(),
        ).save(store.snapshots / "000001")
        assert (
            SnapshotShelf(store, lambda *_: None, logging.getLogger("shelf")).current.generation
            == 1
        )
        with store.database.writing():
            store.forget_keyframes()
        for id in range(3):
            store.put(make_keyframe(id, stamp_ns=500 + id))
        assert SnapshotShelf(store, lambda *_: None, logging.getLogger("shelf")).current is None
        with pytest.raises(
            ValueError,
            match="000001 does not belong to this store: 3 of its 3 keyframes are missing there",
        ):
            Snapshot.of(store, store.snapshots / "000001")
