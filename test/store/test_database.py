"""The store's database: migrations are atomic, backups block nobody, acknowledged data is durable."""

import itertools
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest
from folders import DATA, SUPPORT
from kills import killed_at_every_step
from random_keyframes import assert_same, make_keyframe

from vggt3_ros.store import database
from vggt3_ros.store.database import PLACED, StoreError
from vggt3_ros.store.keyframes import FIRST_ID, KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

FORMAT_2 = DATA / "store_format_2"  # as version 1.0 left it: two sessions, the second one refined
FIRST_SESSION = [FIRST_ID + k for k in range(3)]


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(FORMAT_2, tmp_path / "old")


def test_a_store_of_format_2_is_brought_up_to_date_once_and_goes_on(old, caplog):
    with KeyframeStore(old, read_only=True) as store:
        assert store.ids() == [*FIRST_SESSION, 0, 1] and set(store.public_ids()) == set(
            store.public_ids().values()
        ) == set(store.ids())
        assert store.find(1) == 1 and store.next_public_id() == 2
    for start in range(2):
        with caplog.at_level(logging.WARNING), KeyframeStore(old) as store:
            assert (
                store.poses(aside=True).sessions.tolist() == [0, 0, 0, 1, 1, 1][: 5 + start]
                and store.session == 1
            )
            assert (
                list(store.aside()) == [FIRST_ID + 2]
                and store.get_cache(FIRST_ID + 1, "frame", "1") == b"features of 1"
            )
            newest = max(store.snapshots.iterdir())
            assert Snapshot.of(store, newest).keyframe_ids.tolist() == [
                FIRST_ID,
                FIRST_ID + 1,
                0,
                1,
            ]
            assert store.put(make_keyframe(7 + start, camera=store.camera(0))) == "added"
    assert store.folder == old and caplog.text.count("migrated from format 2 to 3") == 1


def test_a_migration_killed_at_any_step_leaves_one_format_or_the_other(tmp_path):
    numbers, formats = itertools.count(), []
    with KeyframeStore(FORMAT_2, read_only=True) as store:
        wanted = {id: store.get(id) for id in store.ids()}
    for folder, _ended in killed_at_every_step(
        lambda: shutil.copytree(FORMAT_2, tmp_path / f"{next(numbers)}"), KeyframeStore
    ):
        with sqlite3.connect(folder / "keyframes.db") as raw:
            formats.append(raw.execute("PRAGMA user_version").fetchone()[0])
        raw.close()
        with KeyframeStore(folder) as store:
            assert store.ids() == list(wanted) and store.public_ids() == {id: id for id in wanted}
            for id, keyframe in wanted.items():
                assert_same(store.get(id), keyframe)
    assert len(formats) > 8 and set(formats) == {2, 3} and formats == sorted(formats)


def test_a_store_of_format_1_is_read_and_goes_on(tmp_path, caplog):
    with KeyframeStore(tmp_path) as store:
        for id, stamp in ((7, 10), (8, 20), (3, 30), (4, 40)):
            store.put(make_keyframe(id, stamp_ns=stamp))
    with sqlite3.connect(tmp_path / "keyframes.db") as raw:  # as format 1 had it
        raw.execute("DROP INDEX keyframes_by_public_id")
        raw.execute("ALTER TABLE keyframes DROP COLUMN public_id")
        raw.execute("DROP INDEX keyframes_by_session")
        raw.execute("ALTER TABLE keyframes DROP COLUMN session")
        raw.execute("CREATE INDEX keyframes_by_stamp ON keyframes (stamp_ns, id)")
        raw.execute("INSERT INTO notes VALUES ('segments', '[7, 3]')")
        raw.execute("PRAGMA user_version=1")
    raw.close()
    with KeyframeStore(tmp_path, read_only=True) as store:
        assert (
            store.ids() == [7, 8, 3, 4]
            and store.poses().sessions.tolist() == [0, 0, 1, 1]
            and store.find(3) == 3
        )
    with KeyframeStore(tmp_path) as store:
        poses = store.poses()
        assert (poses.ids.tolist(), poses.sessions.tolist(), store.session) == (
            [7, 8, 3, 4],
            [0, 0, 1, 1],
            1,
        )
        assert (
            poses.covariances[2][0, 0] > 1e3
            and poses.covariances[3][0, 0] < 1
            and store.get_note(PLACED) == "[0]"
        )
        store.put(make_keyframe(5, stamp_ns=50))
        assert store.poses().sessions.tolist() == [0, 0, 1, 1, 1]
        assert_same(store.get(8), make_keyframe(8, stamp_ns=20))
    assert "migrated from format 1 to 3" in caplog.text


def test_a_schema_of_an_older_format_with_more_in_it_is_refused(old):
    with sqlite3.connect(old / "keyframes.db") as raw:
        raw.execute("CREATE TRIGGER spy AFTER INSERT ON images BEGIN DELETE FROM images; END")
    raw.close()
    before = (old / "keyframes.db").read_bytes()
    with pytest.raises(StoreError, match="triggers"):
        KeyframeStore(old)
    assert (old / "keyframes.db").read_bytes() == before


def test_a_backup_blocks_nobody_and_is_consistent(tmp_path, monkeypatch):
    """In the middle of the copy, and not a moment later, another keyframe is taken: by the same
    object and by another process's.
    """
    monkeypatch.setattr(database, "COPY_PAGES", 4)
    (tmp_path / "copy").mkdir()
    with KeyframeStore(tmp_path / "store") as store, KeyframeStore(tmp_path / "store") as other:
        for id in range(60):
            store.put(make_keyframe(id))
        middle, go_on, pieces = threading.Event(), threading.Event(), []

        def piece():
            pieces.append(len(store))
            if len(pieces) == 3:
                middle.set()
                assert go_on.wait(60)

        copying = threading.Thread(target=store.backup, args=(tmp_path / "copy", piece))
        copying.start()
        assert middle.wait(60)
        done = threading.Event()
        others = lambda: (
            store.put(make_keyframe(100)),
            other.put(make_keyframe(101)),
            store.get(3),
            done.set(),
        )
        threading.Thread(target=others, daemon=True).start()
        in_time = done.wait(30)
        go_on.set()
        copying.join()
        assert in_time and len(pieces) > 10 and max(pieces) == 62
    with KeyframeStore(tmp_path / "copy", read_only=True) as copy:
        assert copy.ids() == list(range(60))
        for id in (0, 30, 59):
            assert_same(copy.get(id), make_keyframe(id))


SPY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void note(const char *what, int fd) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 0) { path[n] = 0; dprintf(atoi(getenv("SPY")), "%s %s\n", what, strrchr(path, '/') + 1); }
}
int fsync(int fd) { note("sync", fd); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { note("sync", fd); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""
PUTTER = """
import os, sys
sys.path.insert(0, sys.argv[2])
from random_keyframes import make_keyframe
from vggt3_ros.store.keyframes import KeyframeStore
say = lambda text: os.write(int(os.environ["SPY"]), text.encode() + b"\\n")
store = KeyframeStore(sys.argv[1])
for id in range(3):
    say(f"put {id}")
    store.put(make_keyframe(id))
    say(f"acknowledged {id}")
    store.put_cache(id, "frame", "1", b"features" * 1000)
    say(f"cached {id}")
"""


@pytest.mark.skipif(
    shutil.which("cc") is None, reason="needs a C compiler to see what a process has synced"
)
def test_a_keyframe_is_on_the_disk_before_it_is_acknowledged(tmp_path):
    """What can be made again does not wait for the disk: the log is synced between put and
    acknowledgement, and there alone.
    """
    (tmp_path / "spy.c").write_text(SPY)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", tmp_path / "spy.so", tmp_path / "spy.c", "-ldl"],
        check=True,
    )
    with open(tmp_path / "heard", "wb") as heard:
        subprocess.run(
            [sys.executable, "-c", PUTTER, str(tmp_path / "new" / "store"), str(SUPPORT)],
            check=True,
            pass_fds=[heard.fileno()],
            env={**os.environ, "LD_PRELOAD": str(tmp_path / "spy.so"), "SPY": str(heard.fileno())},
        )
    lines = (tmp_path / "heard").read_text().splitlines()
    assert {"sync new", "sync store"} <= set(lines[: lines.index("put 0")])
    for id in range(3):
        put, acknowledged, cached = (
            lines.index(f"{word} {id}") for word in ("put", "acknowledged", "cached")
        )
        assert (
            "sync keyframes.db-wal" in lines[put:acknowledged]
            and not lines[acknowledged + 1 : cached]
        )
