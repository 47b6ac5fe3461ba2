"""Scene memories on disk."""

import numpy as np
import pytest
import safetensors.torch
import torch
from test_distillation import SMALL, smooth_pairs

from vggt3_ros import SceneMemory, distil


@pytest.fixture(scope="module")
def memory():
    return distil(*smooth_pairs(2000), SMALL, steps=60)


@pytest.fixture
def path(memory, tmp_path):
    memory.save(tmp_path / "memory.safetensors")
    return tmp_path / "memory.safetensors"


def test_a_loaded_memory_says_the_same(memory, path):
    keys, _ = smooth_pairs(300)
    loaded = SceneMemory.load(path)
    for said, before in zip(loaded.predict(keys), memory.predict(keys)):
        np.testing.assert_array_equal(said, before)
    assert (loaded.steps, loaded.validation_error_m) == (60, memory.validation_error_m)


def test_a_loaded_memory_can_be_distilled_further(memory, path):
    further = distil(*smooth_pairs(2000), SMALL, initial=SceneMemory.load(path), steps=200)
    assert further.validation_error_m < memory.validation_error_m and further.steps == 260


def test_answers_do_not_depend_on_what_else_is_asked(memory):
    keys, _ = smooth_pairs(300)
    together = memory.predict(keys)
    np.testing.assert_allclose(memory.predict(keys[17:18])[0], together[0][17:18], atol=1e-4)
    assert together[0].shape == (300, 3) and together[1].shape == (300,) and (together[1] > 0).all()
    assert memory.predict(keys[:0])[0].shape == (0, 3)


def _foreign(path):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)


def _foreign_with_our_format(path):
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata)


def _another_format(path):
    with safetensors.safe_open(path, "pt") as file:
        state, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    safetensors.torch.save_file(state, path, dict(metadata, format="99"))


def _layers_missing(path):
    with safetensors.safe_open(path, "pt") as file:
        state, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    state.pop(next(name for name in state if name.startswith("inner")))
    safetensors.torch.save_file(state, path, metadata)


def _lies_about_its_width(path):
    with safetensors.safe_open(path, "pt") as file:
        state, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    safetensors.torch.save_file(state, path, dict(metadata, width="64"))


def _lies_about_its_blocks(path):
    with safetensors.safe_open(path, "pt") as file:
        state, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    safetensors.torch.save_file(state, path, dict(metadata, blocks="many"))


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:-1000]), lambda path: path.write_bytes(path.read_bytes()[:50]),
    lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\x89PNG" * 1000), lambda path: path.write_bytes(b"\xff" * 5000),
    lambda path: path.unlink(), _foreign, _foreign_with_our_format, _another_format, _layers_missing, _lies_about_its_width,
    _lies_about_its_blocks])
def test_a_damaged_or_foreign_file_is_refused_by_name(path, damage):
    damage(path)
    with pytest.raises(ValueError, match="memory.safetensors is not a readable scene memory"):
        SceneMemory.load(path)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "memory.safetensors"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)  # sparse
    with pytest.raises(ValueError, match="more than a memory can have"):
        SceneMemory.load(path)
