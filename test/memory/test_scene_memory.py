"""Scene memories on disk."""

import numpy as np
import pytest
import safetensors.torch
import torch
from folded_memory import folded
from smooth_pairs import SMALL, smooth_pairs

from vggt3_ros import SceneMemory, distil
from vggt3_ros.geometry import se3


@pytest.fixture(scope="module")
def memory():
    return distil(*smooth_pairs(2000), SMALL, slots=600, steps=6)


@pytest.fixture
def path(memory, tmp_path):
    memory.save(tmp_path / "memory.safetensors")
    return tmp_path / "memory.safetensors"


def test_a_loaded_memory_says_the_same(memory, path):
    keys, _ = smooth_pairs(300)
    loaded = SceneMemory.load(path)
    for said, before in zip(loaded.predict(keys), memory.predict(keys)):
        assert np.median(np.abs(said - before)) < 0.01  # keys are kept in eight bits a component
    assert (loaded.steps, loaded.validation_error_m, loaded.temperature) == (
        6,
        memory.validation_error_m,
        memory.temperature,
    )
    np.testing.assert_array_equal(loaded.points, memory.points)
    again = path.with_name("again.safetensors")
    loaded.save(again)
    # and lose nothing more
    np.testing.assert_array_equal(SceneMemory.load(again).keys, loaded.keys)


def test_slots_move_with_their_keyframes(frames, rendered):
    memory = folded(frames[:6], rendered.T_world_cam[:6])
    moved = {frame.id: pose for frame, pose in zip(frames, rendered.T_world_cam)}
    moved[frames[2].id] = moved[frames[2].id] @ se3.exp([0.3, 0, 0, 0, 0.2, 0])
    after, of_it = memory.placed(moved), memory.anchors == 2
    np.testing.assert_allclose(after.map_points[~of_it], memory.map_points[~of_it], atol=1e-6)
    there = se3.transform_points(
        moved[frames[2].id] @ se3.inverse(rendered.T_world_cam[2]), memory.map_points[of_it]
    )
    np.testing.assert_allclose(after.map_points[of_it], there, atol=1e-5)
    assert memory.renumbered({frames[2].id: 900}).keyframe_ids.tolist() == [0, 1, 900, 3, 4, 5]


def test_a_room_takes_few_megabytes(frames, rendered, tmp_path):
    memory = folded(frames, rendered.T_world_cam)
    memory.save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 100 * len(memory) + 20_000 < 4e6


def test_answers_do_not_depend_on_what_else_is_asked(memory):
    keys, _ = smooth_pairs(300)
    together = memory.predict(keys)
    np.testing.assert_allclose(memory.predict(keys[17:18])[0], together[0][17:18], atol=1e-4)
    assert (
        together[0].shape == (300, 3) and together[1].shape == (300,) and (together[1] > 0).all()
    )
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


def _changed(**tensors):
    """Damage that replaces tensors; None: leaves them out."""

    def damage(path):
        with safetensors.safe_open(path, "pt") as file:
            state, metadata = (
                {name: file.get_tensor(name) for name in file.keys()},
                file.metadata(),
            )
        state.update({name: make(state[name]) for name, make in tensors.items() if make})
        safetensors.torch.save_file(
            {name: t.contiguous() for name, t in state.items() if tensors.get(name, True)},
            path,
            metadata,
        )

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1000]),
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x89PNG" * 1000),
        lambda path: path.write_bytes(b"\xff" * 5000),
        lambda path: path.unlink(),
        _foreign,
        _foreign_with_our_format,
        _another_format,
        _changed(points=None),
        _changed(points=lambda t: t[:-1]),
        _changed(points=lambda t: t * float("nan")),
        _changed(anchors=lambda t: t + 1),
        _changed(keys=lambda t: t[:, :-1]),
        _changed(spread=lambda t: -t),
        _changed(T_map_anchor=lambda t: 2 * t),
        _changed(observed=lambda t: t.double()),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_by_name(path, damage):
    damage(path)
    with pytest.raises(ValueError, match="memory.safetensors is not a readable scene memory"):
        SceneMemory.load(path)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "memory.safetensors"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)  # sparse
    with pytest.raises(ValueError, match="allowed"):
        SceneMemory.load(path)
