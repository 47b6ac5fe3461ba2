"""vggt3 benchmark memory on few keyframes: every kind is measured on the same images."""

import numpy as np
import pytest

from vggt3_ros import BackendConfig
from vggt3_ros.benchmarks import ablation
from vggt3_ros.cli.benchmark.memory import line
from vggt3_ros.cli.main import main
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence


def test_every_kind_is_measured_and_the_slots_better_the_mlp(rendered, monkeypatch):
    monkeypatch.setattr(ablation, "MLP_STEPS", 30)
    monkeypatch.setattr(ablation, "HEAD_STEPS", 10)
    some = rendered.keyframes[:12]
    keyframes = KeyframeList(
        rendered.camera,
        rendered.stamps_ns[:12],
        rendered.T_world_cam[:12],
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    near = np.argsort(
        [
            np.linalg.norm(rendered.T_world_cam[:12, :3, 3] - T[:3, 3], axis=1).min()
            for T in rendered.T_world_query
        ]
    )[:3]
    queries = [
        Query(int(k), lambda k=k: rendered.queries[k], rendered.T_world_query[k]) for k in near
    ]
    sequence = Sequence(
        "few",
        rendered.camera,
        rendered.stamps_ns[:12],
        keyframes,
        rendered.T_world_cam[:12],
        queries,
    )
    rows = {
        row["kind"]: row
        for row in ablation.measure(sequence, BackendConfig.from_flat({"device": "cpu"}), 2)
    }
    assert tuple(rows) == ablation.KINDS and all(
        row["queries"] == 3 and row["memory_mb"] > 0.1 for row in rows.values()
    )
    for kind in (ablation.CLOSED, ablation.ADAM, ablation.HEAD):
        assert rows[kind]["median_m"] < 0.03 < rows[ablation.MLP]["median_m"]
    assert rows[ablation.CLOSED]["seconds"] < rows[ablation.ADAM]["seconds"]
    assert "closed form" in line(rows[ablation.CLOSED]) and "10 cm/10 deg" in line(
        rows[ablation.CLOSED]
    )


def test_a_data_set_without_truth_is_refused(tmp_path, capsys):
    assert main(["benchmark", "memory", str(tmp_path / "nothing"), "--quiet"]) == 2
    assert capsys.readouterr().err.strip()


@pytest.mark.parametrize("arguments, words", [(["--steps", "0"], "1 or more")])
def test_what_makes_no_sense_is_refused(arguments, words, tmp_path, capsys):
    assert main(["benchmark", "memory", str(tmp_path), "--quiet", *arguments]) == 2
    assert words in capsys.readouterr().err
