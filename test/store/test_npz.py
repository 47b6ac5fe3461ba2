""".npz files of other programs and older versions: read when whole, refused by name when not."""

import random

import numpy as np
import pytest
from damage import damage
from folders import DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from vggt3_ros.store.npz import load_npz
from vggt3_ros.store.snapshot import SHAPES, Snapshot

OLD = DATA / "store_format_2" / "snapshots" / "000003"  # as version 1.0 left it


def test_arrays_that_announce_more_than_the_file_holds(tmp_path):
    np.savez(tmp_path / "good.npz", a=np.arange(4), b=np.zeros((2, 3), order="F"))
    arrays = load_npz(tmp_path / "good.npz", ("a", "b"))
    np.testing.assert_array_equal(arrays["a"], np.arange(4))
    assert arrays["b"].shape == (2, 3)
    data = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "huge.npz").write_bytes(data.replace(b"'shape': (4,),", b"'shape':(9**9)", 1))
    (tmp_path / "large.npz").write_bytes(
        data.replace(b"'shape': (4,), ", b"'shape':(2**9,)"[:15], 1)
    )
    np.savez_compressed(tmp_path / "packed.npz", a=np.zeros(10**6))
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    for name in ("huge", "large", "packed", "pickled"):
        with pytest.raises(ValueError, match=name):
            load_npz(tmp_path / f"{name}.npz", ("a",))
    with pytest.raises(ValueError, match="more than the 10"):
        load_npz(tmp_path / "good.npz", ("a",), 10)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused_or_read(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("npz") / "arrays.npz"
    path.write_bytes((OLD / "arrays.npz").read_bytes())
    damage(path, random.Random(seed))
    names = [name for name in SHAPES if name != "origin"]
    try:
        assert set(load_npz(path, names)) == set(names)
    except ValueError as error:
        assert str(path) in str(error)


def test_a_snapshot_of_an_older_version_is_read_and_written_as_a_new_one(tmp_path):
    old = Snapshot.load(OLD)
    assert len(old) and len(old.cloud) and old.generation == 3
    old.save(tmp_path / "000004")
    new = Snapshot.load(tmp_path / "000004")
    assert {path.name for path in (tmp_path / "000004").iterdir()} == {
        "arrays.safetensors",
        "snapshot.json",
    }
    for name in ("keyframe_ids", "stamps_ns", "T_map_cam", "T_odom_cam", "covariances"):
        np.testing.assert_array_equal(getattr(new, name), getattr(old, name))
    np.testing.assert_array_equal(new.cloud.points, old.cloud.points)
    assert len(new.loops) == len(old.loops)
