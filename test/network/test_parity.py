"""The network computes what the reference computes: stored outputs, checkpoint names and
shapes.
"""

import argparse
import json

import numpy as np
import pytest
from folders import DATA
from tiny_network import (
    remembered_fill,
)

from vggt3_ros.cli import checkpoint as command
from vggt3_ros.network.checkpoint import expected_tensors
from vggt3_ros.network.config import VGG_T3, VGGT_1B, NetworkConfig
from vggt3_ros.network.parity import ParityError, case_config, relative_error, run_case

CASES = sorted(DATA.glob("vits_d4_*.npz"))


@pytest.fixture(autouse=True)
def fill_each_entry_once(monkeypatch):
    monkeypatch.setattr("vggt3_ros.network.parity.fill", remembered_fill)


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["checkpoint", *map(str, arguments)])
    return parsed.run(parsed)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_stored_reference_outputs_agree(case, capsys):
    assert run_command("parity", case, "--json") == 0
    errors = json.loads(capsys.readouterr().out)["relative_error"]
    with np.load(case) as file:
        assert set(errors) == set(file.files) - {"images", "config"}
    assert max(errors.values()) < 1e-4, errors


def test_a_wrong_reference_output_is_found(tmp_path, capsys):
    with np.load(CASES[0]) as file:
        case = {name: file[name] for name in ("images", "config", "pose_enc", "depth")}
    case["depth"] = case["depth"].copy()
    case["depth"][1, 5, 5] *= 1.01
    np.savez(tmp_path / "case.npz", **case)
    assert run_command("parity", tmp_path / "case.npz") == 1
    assert "NOT within 0.0001" in capsys.readouterr().out


def parts_of(case, path, *names, **changes):
    with np.load(case) as file:
        kept = {name: file[name] for name in names if name in file.files}
        np.savez(path, images=file["images"], config=file["config"], **kept | changes)
    return path


@pytest.mark.parametrize(
    "names",
    [("query_pose_enc",), ("map_pose_enc",), ("depth",), ("map_all_layer0_w0_heads_0_1",), ()],
)
def test_a_case_may_hold_any_part_of_the_outputs(tmp_path, names):
    case = DATA / "vits_d4_ttt_s3_70x98.npz"
    with np.load(case) as file:
        names = [name for name in file.files if any(name.startswith(wanted) for wanted in names)]
    result = run_case(parts_of(case, tmp_path / "case.npz", *names))
    assert set(result.relative_error) == set(names) and not result.not_compared
    assert all(error < 1e-4 for error in result.relative_error.values())


def test_a_query_of_a_network_without_scenes_is_not_compared(tmp_path):
    path = parts_of(
        DATA / "vits_d4_softmax_s3_70x98.npz",
        tmp_path / "case.npz",
        query_pose_enc=np.zeros((1, 9)),
    )
    assert run_case(path).not_compared == ("query_pose_enc",)


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"depth": np.zeros((3, 70, 98))}, "depth: shape"),
        ({"query_depth": np.zeros((3, 70, 98, 1))}, "maps 0 of its"),
    ],
)
def test_an_output_of_another_shape_is_named(tmp_path, changes, word):
    with pytest.raises(ParityError, match=word):
        run_case(parts_of(DATA / "vits_d4_ttt_s3_70x98.npz", tmp_path / "case.npz", **changes))


def test_what_a_case_asks_beyond_the_network_is_named(tmp_path):
    with np.load(CASES[0]) as file:
        entries = json.loads(str(file["config"])) | {"author": "someone"}
        np.savez(
            tmp_path / "case.npz",
            images=file["images"][:1],
            config=json.dumps(entries),
            tracks=np.zeros(3),
        )
    result = run_case(tmp_path / "case.npz")
    assert result.not_compared == ("tracks",) and result.unknown_config == ("author",)


@pytest.mark.parametrize(
    "entries, word",
    [({"kind": "linear"}, "linear"), ({"patch_embed": "resnet"}, "resnet"), ({"embed_dim": 100}, "embed_dim 1024"),
     ({"layers": [0, 1, 2, 99]}, "99"), ({"layers": [1]}, "four"), ({"num_heads": 7}, "7 heads")],
)  # fmt: skip
def test_an_impossible_configuration_is_refused_with_the_reason(entries, word):
    with pytest.raises(ParityError, match=word):
        case_config(entries)


def test_a_file_that_is_no_case_is_refused(tmp_path):
    np.savez(tmp_path / "no_case.npz", images=np.zeros((1, 3, 14, 14)))
    with pytest.raises(ParityError, match="not a parity case.*config"):
        run_case(tmp_path / "no_case.npz")


def test_relative_error_compares_infinities_by_place():
    reference = np.array([1.0, np.inf, -4.0])
    assert relative_error(np.array([1.0, np.inf, -4.2]), reference) == pytest.approx(0.05)
    assert relative_error(np.array([1.0, 2.0, -4.0]), reference) == np.inf
    assert relative_error(np.array([np.nan, np.inf, -4.0]), reference) == np.inf


@pytest.mark.parametrize("config, name", [(VGG_T3, "vgg-t3"), (VGGT_1B, "vggt-1b")])
def test_names_and_shapes_equal_the_released_checkpoints(config, name):
    lines = (line.split("\t") for line in (DATA / f"{name}-keys.tsv").read_text().splitlines())
    released = {key: tuple(map(int, shape.split("x"))) for key, shape in lines}
    used = {
        k: v
        for k, v in released.items()
        if not k.startswith("track_head.") and not k.endswith("mask_token")
    }
    assert expected_tensors(config) == used


def test_the_default_configuration_takes_one_more_step_per_thousand_images():
    config = NetworkConfig()
    assert [config.steps_for(count) for count in (1, 999, 1000, 2500)] == [2, 2, 3, 4]
