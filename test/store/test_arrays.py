"""Arrays on disk: what was saved is what is loaded, and nothing that is not whole."""

import json
import random
import resource
import signal

import numpy as np
import pytest
from damage import damage
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from vggt3_ros.store.arrays import load_arrays, save_arrays

ARRAYS = {
    "poses": np.random.default_rng(0).random((7, 4, 4)),
    "colors": np.arange(300, dtype=np.uint8).reshape(100, 3),
    "none": np.zeros((0, 6, 6)),
    "turned": np.arange(12, dtype=np.int64).reshape(3, 4).T,
    "scale": np.array(2.5),
    "mask": np.array([True, False]),
}


@pytest.fixture
def saved(tmp_path):
    save_arrays(tmp_path / "a.safetensors", ARRAYS, {"made by": "a test"})
    return tmp_path / "a.safetensors"


def test_loads_what_was_saved(saved):
    arrays, metadata = load_arrays(saved, ARRAYS)
    assert metadata["made by"] == "a test" and set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    some, _ = load_arrays(saved, ["mask"])
    assert set(some) == {"mask"}
    some["mask"][0] = False  # a copy: the file may be removed, and may not change
    np.testing.assert_array_equal(load_arrays(saved, ["mask"])[0]["mask"], ARRAYS["mask"])


def test_every_changed_byte_of_the_values_is_noticed(saved):
    whole = saved.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    for at in range(begin, len(whole), 37):
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"a\.safetensors cannot be read.*checksum of"):
            load_arrays(saved, ARRAYS)


def test_another_shape_of_the_same_values_is_noticed(saved):
    data = saved.read_bytes()
    saved.write_bytes(data.replace(b"[100,3]", b"[3,100]"))
    with pytest.raises(ValueError, match="checksum of colors"):
        load_arrays(saved, ARRAYS)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_refused_by_name(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    save_arrays(path, ARRAYS)
    whole = path.read_bytes()
    damage(path, random.Random(seed))
    if path.read_bytes() == whole:
        return
    try:
        arrays, _ = load_arrays(path, ARRAYS)
    except ValueError as error:
        assert str(path) in str(error)
    else:  # what tells nothing of the arrays: a space in the header, a key of the metadata
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(arrays[name], array)


def test_what_it_lacks_and_what_is_too_large_is_told(saved):
    with pytest.raises(ValueError, match=r"a\.safetensors.*speed"):
        load_arrays(saved, ["poses", "speed"])
    with pytest.raises(ValueError, match="more than the 100"):
        load_arrays(saved, ["poses"], max_bytes=100)
    with pytest.raises(ValueError, match="nothing.safetensors"):
        load_arrays(saved.with_name("nothing.safetensors"), ["poses"])
    save_file({"poses": np.zeros(3)}, saved)  # by another program
    with pytest.raises(ValueError, match="checksum of poses"):
        load_arrays(saved, ["poses"])


def test_a_header_that_announces_more_than_there_is_takes_no_memory(tmp_path):
    path = tmp_path / "huge.safetensors"
    described = {"poses": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}
    header = json.dumps(described).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(ValueError, match="huge"):
        load_arrays(path, ["poses"])
    path.write_bytes((2**62).to_bytes(8, "little") + bytes(64))
    with pytest.raises(ValueError, match="announces a header"):
        load_arrays(path, ["poses"])


def test_a_disk_that_does_not_take_it_is_an_os_error(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_arrays(tmp_path / "a.safetensors", {"large": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
