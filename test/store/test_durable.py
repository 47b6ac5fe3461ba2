"""Durable renames: every file and folder is flushed after it was written and before it is renamed."""

import os

import numpy as np
import pytest
from random_keyframes import make_keyframe
from snapshots import make

from vggt3_ros.ros.services.saving import save_map
from vggt3_ros.store import durable
from vggt3_ros.store.keyframes import KeyframeStore


@pytest.fixture
def disk(monkeypatch):
    """What reached the disk, in order: ("sync", path) and ("rename", from, to)."""
    done, fsync, rename = [], os.fsync, os.rename

    def synced(descriptor):
        fsync(descriptor)
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def renamed(source, target):
        rename(source, target)
        done.append(("rename", str(source), str(target)))

    monkeypatch.setattr(durable.os, "fsync", synced)
    monkeypatch.setattr(durable.os, "rename", renamed)
    return done


def assert_durable(disk, target):
    """A power cut at any moment leaves `target` whole or not there."""
    at = next(k for k, step in enumerate(disk) if step[0] == "rename" and step[2] == str(target))
    source, before, after = disk[at][1], disk[:at], disk[at + 1 :]
    paths = [target, *target.rglob("*")]
    assert len(paths) > 2
    for path in paths:
        assert ("sync", source + str(path).removeprefix(str(target))) in before, path
    # it was new itself
    assert ("sync", str(target.parent)) in after and ("sync", str(target.parent.parent)) in disk
    order = [step[1] for step in before]
    for path in paths[1:]:  # a folder names what is on the disk already
        here, above = (
            source + str(entry).removeprefix(str(target)) for entry in (path, path.parent)
        )
        assert order.index(here) < len(order) - order[::-1].index(above)


def test_a_snapshot(tmp_path, disk):
    make().save(tmp_path / "snapshots" / "000007")
    assert_durable(disk, tmp_path / "snapshots" / "000007")


def test_a_saved_map(tmp_path, disk):
    with KeyframeStore(tmp_path / "store") as store:
        for id in range(5):
            store.put(make_keyframe(id))
        snapshot = make()
        snapshot.save(store.snapshots / "000007")
        folder = save_map(store, snapshot, tmp_path / "maps", "saved")
    assert {path.name for path in folder.rglob("*")} >= {
        "keyframes.db",
        "map.ply",
        "trajectory.txt",
        "snapshot.json",
        "arrays.safetensors",
    }
    assert_durable(disk, folder)


def test_a_file_renamed_into_another_folder_is_durable(tmp_path, disk):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").write_bytes(np.random.default_rng(0).bytes(1000))
    durable.rename(tmp_path / "a" / "file", tmp_path / "b" / "file")
    assert disk == [
        ("sync", str(tmp_path / "a" / "file")),
        ("rename", str(tmp_path / "a" / "file"), str(tmp_path / "b" / "file")),
        ("sync", str(tmp_path / "b")),
        ("sync", str(tmp_path / "a")),
    ]


def test_a_file_that_is_written_is_the_old_or_the_new_one(tmp_path, disk):
    path = tmp_path / "page.html"
    path.write_text("old")
    durable.write_file(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
    assert [step[0] for step in disk] == ["sync", "rename", "sync"]
    assert disk[1][2] == str(path) and disk[0][1] == disk[1][1]


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_alone(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr(
        durable.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError, match="full"):
        durable.write_file(path, b"new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name, why", [("", "is a folder"), ("missing/page.html", "there is no folder")]
)
def test_where_a_file_cannot_be_written_is_said_beforehand(tmp_path, name, why):
    with pytest.raises(ValueError, match=why):
        durable.check_target(tmp_path / name)
    assert durable.check_target(tmp_path / "page.html") == tmp_path / "page.html"
