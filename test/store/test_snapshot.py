"""Snapshots on disk: loaded as saved, and refused with a reason if incomplete."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from folders import DATA
from snapshots import make

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.odometry_breaks import Break, reported, told
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot


@pytest.mark.parametrize("count, points", [(5, 40), (1, 0)])
def test_loads_what_was_saved(tmp_path, count, points):
    saved = make(count, points)
    saved.save(tmp_path / "000007")
    loaded = Snapshot.load(tmp_path / "000007")
    assert loaded.generation == 7 and len(loaded) == count and len(loaded.cloud) == points
    for name in ("keyframe_ids", "stamps_ns", "T_map_cam", "T_odom_cam", "covariances"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    for name in ("points", "colors", "confidence"):
        np.testing.assert_array_equal(getattr(loaded.cloud, name), getattr(saved.cloud, name))
    assert (
        loaded.seconds == saved.seconds
        and loaded.report["keyframes"] == count
        and np.isnan(loaded.report["memory_error_m"])
    )
    for a, b in zip(loaded.loops, saved.loops, strict=True):
        assert (a.source_id, a.target_id, a.accepted, a.reason, a.origin, a.inliers) == (
            b.source_id,
            b.target_id,
            b.accepted,
            b.reason,
            b.origin,
            b.inliers,
        )
        np.testing.assert_equal((a.residual_m, a.residual_rad), (b.residual_m, b.residual_rad))
        for x, y in ((a.T_source_target, b.T_source_target), (a.information, b.information)):
            assert x is y is None or np.array_equal(x, y)


def test_points_in_national_coordinates_come_back_exactly(tmp_path):
    near = make(5, 40)
    origin = np.array([500_000.0, 4_600_000.0, 0.0])
    far = replace(
        near,
        cloud=PointMap.around(origin, near.cloud.points, near.cloud.colors, near.cloud.confidence),
    )
    far.save(tmp_path / "000007")
    loaded = Snapshot.load(tmp_path / "000007").cloud
    np.testing.assert_array_equal(loaded.around_origin, near.cloud.points)
    np.testing.assert_array_equal(loaded.points, far.cloud.points)
    assert len(loaded.thinned(7)) == 7 and loaded.thinned(7).origin.tolist() == origin.tolist()
    # older versions would read it wrongly
    assert json.loads((tmp_path / "000007" / "snapshot.json").read_text())["format"] == 4


def _format_99(folder):
    path = folder / "snapshot.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), format=99)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "arrays.safetensors").write_bytes(
            (folder / "arrays.safetensors").read_bytes()[:500]
        ),
        lambda folder: (folder / "arrays.safetensors").write_bytes(b""),
        lambda folder: (folder / "arrays.safetensors").write_bytes(b"not safetensors" * 50),
        lambda folder: (folder / "arrays.safetensors").unlink(),
        lambda folder: (folder / "snapshot.json").write_text('{"format": 1, "gener'),
        lambda folder: (folder / "snapshot.json").write_text('{"format": 1}'),
        lambda folder: (folder / "snapshot.json").write_text("[]"),
        lambda folder: (folder / "snapshot.json").write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / "snapshot.json").unlink(),
        _format_99,
    ],
)
def test_a_damaged_snapshot_is_refused_by_name(tmp_path, damage):
    make().save(tmp_path / "000007")
    damage(tmp_path / "000007")
    with pytest.raises(ValueError, match="000007"):
        Snapshot.load(tmp_path / "000007")


def test_a_byte_changed_on_disk_is_noticed(tmp_path):
    make().save(tmp_path / "000007")
    path = tmp_path / "000007" / "arrays.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="000007"):
        Snapshot.load(tmp_path / "000007")


def test_an_interrupted_save_does_not_block_the_next(tmp_path):
    (tmp_path / "000007.partial").mkdir()
    (tmp_path / "000007.partial" / "arrays.safetensors").write_bytes(b"half")
    make().save(tmp_path / "000007")
    assert Snapshot.load(tmp_path / "000007").generation == 7
    assert [p.name for p in tmp_path.iterdir()] == ["000007"]


def test_map_odom_is_taken_from_the_newest_keyframe():
    snapshot = make()
    # the second is the newest
    shuffled = replace(snapshot, stamps_ns=10**18 + np.array([3, 9, 1, 2, 0]))
    np.testing.assert_allclose(
        shuffled.T_map_odom @ snapshot.T_odom_cam[1], snapshot.T_map_cam[1], atol=1e-9
    )


def test_a_rejected_loop_keeps_what_was_measured_and_breaks_are_told_by_the_front_ends_ids(
    tmp_path,
):
    motion, information = se3.exp([0.1, 0.2, 0, 0, 0.3, 0]), np.diag([4.0, 4, 4, 9, 9, 9])
    rejected = Loop(
        4,
        2,
        False,
        "the solved graph disagrees by 0.40 m and 3.0 deg",
        "proximity",
        60,
        motion,
        information,
        0.4,
        0.05,
    )
    made = replace(
        make(), loops=(rejected, *make().loops), report=reported([Break(10, 30, 0.3, 20.0)])
    )
    made.save(tmp_path / "000007")
    loaded = Snapshot.load(tmp_path / "000007")
    assert [loop.accepted for loop in loaded.loops] == [False, True, False, True]
    np.testing.assert_array_equal(loaded.loops[0].T_source_target, motion)
    np.testing.assert_array_equal(loaded.loops[0].information, information)
    assert loaded.loops[2].T_source_target is None
    assert (
        str(told(loaded.report)[0])
        == "odometry broke between keyframes 10 and 30: off by 0.30 m and 20 deg"
    )
    (named,) = told(loaded.report, {10: 1010, 30: 1030})
    assert (named.before, named.after) == (1010, 1030)
    text = json.loads((tmp_path / "000007" / "snapshot.json").read_text())
    text["loops"][0]["measured"] = False
    (tmp_path / "000007" / "snapshot.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="some of its loops are missing"):
        Snapshot.load(tmp_path / "000007")


OLD = DATA / "store_format_2" / "snapshots" / "000003"  # as version 1.0 left it


@pytest.mark.parametrize("old", [False, True])
def test_a_cloud_that_is_forgotten_is_gone_and_the_rest_stays(tmp_path, old):
    folder = tmp_path / "000007"
    if old:
        shutil.copytree(OLD, folder)
    else:
        make().save(folder)
    (folder / "slots.safetensors").write_bytes(b"as it is")
    before = Snapshot.load(folder)
    assert len(before.cloud)
    Snapshot.forget_cloud(folder)
    after = Snapshot.load(folder)
    assert len(after.cloud) == 0 and after.generation == before.generation
    np.testing.assert_array_equal(after.T_map_cam, before.T_map_cam)
    assert len(after.loops) == len(before.loops) and after.seconds == before.seconds
    points = before.cloud.around_origin.tobytes()
    for path in folder.iterdir():
        assert points not in path.read_bytes(), path
    assert (folder / "slots.safetensors").read_bytes() == b"as it is"
