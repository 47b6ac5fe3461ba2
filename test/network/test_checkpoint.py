"""Checkpoints: every released form loads, everything else is refused by name."""

import argparse
import json

import pytest
import torch
from folders import DATA
from safetensors.torch import load_file, save_file
from tiny_network import one_thread, random_images, relative, tiny_network  # noqa: F401

from vggt3_ros.cli import checkpoint as command
from vggt3_ros.network.checkpoint import (
    WrongCheckpoint,
    _suggested_config,
    expected_tensors,
    inspect_checkpoint,
    load_checkpoint,
    save_checkpoint,
)  # fmt: skip
from vggt3_ros.network.checkpoint_files import CheckpointError
from vggt3_ros.network.config import GlobalAttention, NetworkConfig

CONVOLUTION = "aggregator.global_blocks.1.attn.short_conv_qkv.2.conv.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(tiny_network(), path)
    return path


@pytest.fixture
def tensors(saved):
    return load_file(saved)


def metadata(saved):
    from safetensors import safe_open

    with safe_open(saved, "pt") as file:
        return file.metadata()


def assert_same_network(network, like=None):
    expected = (like or tiny_network()).state_dict()
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items()
    )


def test_a_saved_network_comes_back_with_its_configuration(saved):
    network = load_checkpoint(saved)
    assert network.config == tiny_network().config
    assert_same_network(network)
    images = random_images(2)
    assert torch.equal(
        network.map(images)[0].pose_encoding, tiny_network().map(images)[0].pose_encoding
    )


def lengthened(state):
    """A state dict with a trunk of the published depth: released files say nothing of themselves,
    and that has the published taps.
    """
    for kind in ("frame", "global"):
        for name in [name for name in state if name.startswith(f"aggregator.{kind}_blocks.0.")]:
            for layer in range(24):
                state[name.replace("_blocks.0.", f"_blocks.{layer}.")] = torch.zeros_like(
                    state[name], dtype=torch.bfloat16
                )
    return state


@pytest.mark.parametrize("attention", ["ttt", "softmax"])
def test_a_file_without_our_metadata_is_recognised_by_its_shapes(tmp_path, attention):
    state = lengthened(tiny_network(attention).state_dict())
    save_file(state, tmp_path / "released.safetensors")
    found = inspect_checkpoint(tmp_path / "released.safetensors")
    assert found.report.problems == 0
    assert found.config.attention == GlobalAttention(attention)
    assert (found.config.depth, found.config.tapped_layers) == (24, (4, 11, 17, 23))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: {"model": t, "epoch": 3},
        lambda t: {f"module.{k}": v for k, v in t.items()},
    ],
)
def test_torch_files_load_wrapped_or_not(tmp_path, tensors, wrap, monkeypatch):
    torch.save(wrap(tensors), tmp_path / "model.pt")
    monkeypatch.setattr(
        "vggt3_ros.network.checkpoint._declared_config", lambda source: tiny_network().config
    )
    assert_same_network(load_checkpoint(tmp_path / "model.pt"))


def test_the_value_convolution_may_have_either_name_or_both(tmp_path, saved, tensors):
    other = CONVOLUTION.replace(".conv.", ".conf.")
    renamed = {name.replace(".2.conv.", ".2.conf."): tensor for name, tensor in tensors.items()}
    both = tensors | {other: tensors[CONVOLUTION].clone()}
    for content in (renamed, both):
        save_file(content, tmp_path / "model.safetensors", metadata(saved))
        assert_same_network(load_checkpoint(tmp_path / "model.safetensors"))


def test_parts_of_the_release_that_are_not_used_are_passed_over(tmp_path, saved, tensors):
    extra = {
        "track_head.tracker.query_ref_token": torch.zeros(3),
        "aggregator.patch_embed.mask_token": torch.zeros(1, 384),
    }
    save_file(tensors | extra, tmp_path / "model.safetensors", metadata(saved))
    assert set(inspect_checkpoint(tmp_path / "model.safetensors").ignored) == set(extra)
    assert_same_network(load_checkpoint(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("described", [True, False])
def test_missing_unexpected_and_misshaped_tensors_are_all_named(
    tmp_path, saved, tensors, described
):
    del tensors["camera_head.pose_branch.fc2.bias"]
    tensors["aggregator.surprise"] = torch.zeros(2)
    tensors["depth_head.norm.weight"] = torch.zeros(7)
    save_file(tensors, tmp_path / "model.safetensors", metadata(saved) if described else None)
    with pytest.raises(WrongCheckpoint) as error:
        load_checkpoint(tmp_path / "model.safetensors")
    report, text = error.value.report, str(error.value)
    if described:
        assert report.missing == ("camera_head.pose_branch.fc2.bias",)
        assert report.unexpected == ("aggregator.surprise",)
    assert "camera_head.pose_branch.fc2.bias" in report.missing
    assert "aggregator.surprise" in report.unexpected
    assert any(
        entry.startswith("depth_head.norm.weight: file has 7, network needs")
        for entry in report.misshaped
    )
    assert "missing" in text and "unexpected" in text and "misshaped" in text


def test_a_part_of_a_released_file_is_compared_with_the_release(tmp_path):
    lines = [line.split("\t") for line in (DATA / "vgg-t3-keys.tsv").read_text().splitlines()]
    kept = {
        key: torch.zeros(*map(int, shape.split("x")))
        for key, shape in lines
        if key.startswith("aggregator.camera")
    }
    kept["aggregator.global_blocks.0.attn.lr_fc.bias"] = torch.zeros(48)
    save_file(kept, tmp_path / "partial.safetensors")
    found = inspect_checkpoint(tmp_path / "partial.safetensors")
    assert (
        len(found.report.missing) == 1448
        and not found.report.unexpected
        and not found.report.misshaped
    )
    with pytest.raises(WrongCheckpoint, match="1448 missing: .* and 1428 more"):
        load_checkpoint(tmp_path / "partial.safetensors")


def test_integers_are_not_weights(tmp_path, saved, tensors):
    tensors["depth_head.norm.weight"] = torch.ones(768, dtype=torch.int64)
    save_file(tensors, tmp_path / "model.safetensors", metadata(saved))
    with pytest.raises(WrongCheckpoint, match="depth_head.norm.weight: .* needs floating point"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_trunk_is_converted_and_the_heads_stay_wide(saved, dtype):
    network = load_checkpoint(saved, dtype=dtype)
    assert {tensor.dtype for tensor in network.aggregator.state_dict().values()} == {dtype}
    assert {tensor.dtype for tensor in network.camera_head.state_dict().values()} == {
        torch.float32
    }
    narrow = load_checkpoint(saved, dtype=dtype, head_dtype=dtype)
    assert {tensor.dtype for tensor in narrow.depth_head.state_dict().values()} == {dtype}


def test_weights_of_the_wanted_dtype_stay_mapped_from_the_file(saved):
    load_checkpoint(saved)  # whatever the first load imports
    before = anonymous_bytes()
    network = load_checkpoint(saved)
    grown = anonymous_bytes() - before
    assert grown < 0.2 * sum(tensor.nbytes for tensor in network.state_dict().values())


def anonymous_bytes():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.parametrize("spec", ["no/such/file.safetensors", "nothing", "/"])
def test_what_is_no_checkpoint_is_refused(spec):
    with pytest.raises(CheckpointError):
        load_checkpoint(spec)


def run_inspect(*arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["checkpoint", "inspect", *map(str, arguments)])
    return parsed.run(parsed)


def test_inspect_shows_what_a_user_must_know(saved, capsys):
    assert run_inspect(saved) == 0
    text = capsys.readouterr().out
    assert "fast weights" in text and "all tensors present" in text
    assert "licence unknown" in text and "nvidia/vgg-ttt: NVIDIA OneWay Noncommercial" in text


def test_inspect_of_an_incomplete_file_names_what_is_missing(tmp_path, saved, tensors, capsys):
    del tensors[CONVOLUTION]
    save_file(tensors, tmp_path / "model.safetensors", metadata(saved))
    assert run_inspect(tmp_path / "model.safetensors", "--json") == 1
    assert json.loads(capsys.readouterr().out)["missing"] == [CONVOLUTION]


def test_mapping_with_a_loaded_checkpoint_agrees_in_half_precision(saved):
    images = random_images(2)
    narrow = load_checkpoint(saved, dtype=torch.bfloat16)
    expected = tiny_network().map(images)[0].pose_encoding
    assert relative(narrow.map(images)[0].pose_encoding, expected) < 0.1


def test_a_convolution_instead_of_the_transformer_is_recognised_by_its_shapes():
    config = NetworkConfig(attention=GlobalAttention.SOFTMAX, encoder="conv")
    assert _suggested_config(expected_tensors(config)) == config


def test_the_commercial_twin_loads_by_the_same_code(tmp_path):
    """vggt_1B_commercial.pt: a .pt file beside other files in a folder of the hub's cache, with
    names and shapes of VGGT.
    """
    network = tiny_network("softmax")
    extra = {
        "track_head.tracker.query_ref_token": torch.zeros(3),
        "aggregator.patch_embed.mask_token": torch.zeros(1, 384),
    }
    folder = tmp_path / "models--facebook--VGGT-1B-Commercial" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    torch.save(lengthened(network.state_dict()) | extra, folder / "vggt_1B_commercial.pt")
    (folder / "README.md").write_text("terms")
    found = inspect_checkpoint(folder)
    assert found.report.problems == 0 and found.config.attention is GlobalAttention.SOFTMAX
    assert "acceptable use policy" in found.licence and "CC-BY-NC" not in found.licence
    torch.testing.assert_close(
        load_checkpoint(folder).aggregator.camera_token, network.aggregator.camera_token
    )
