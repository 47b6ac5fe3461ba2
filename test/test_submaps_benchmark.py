"""vggt3 benchmark submaps on few keyframes: rows that say what was measured, and nothing done twice."""

import numpy as np
import pytest

from vggt3_ros.cli.benchmark_submaps import line
from vggt3_ros.cli.main import main
from vggt3_ros.datasets import home
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.evaluation.submaps import ONE, SUBMAPS, measure

TINY = {"memory.width": 64, "memory.blocks": 1, "memory.submap_cells": 900, "memory.warm_steps": 4}


@pytest.fixture(scope="module")
def walk(rendered):
    """The rendered apartment, whose first two rooms lie as those of a home do."""
    some = rendered.keyframes[:24]
    keyframes = KeyframeList(rendered.camera, rendered.stamps_ns[:24], rendered.T_odom_cam[:24], lambda i: some[i].image,
                             lambda i: some[i].depth)
    queries = [Query(k, lambda k=k: rendered.queries[k], rendered.T_world_query[k]) for k in (2, 4, 11)]
    return Sequence("walk", rendered.camera, rendered.stamps_ns[:24], keyframes, rendered.T_world_cam[:24], queries)


def test_each_size_and_kind_is_measured_and_nothing_is_made_twice(walk, tmp_path):
    assert set(home.room_of(walk.groundtruth)) == {0, 1}
    rows = list(measure(walk, tmp_path, [1, 2], (ONE, SUBMAPS), 8, TINY, lambda text, part: None))
    assert [(row["rooms"], row["kind"]) for row in rows] == [(1, ONE), (1, SUBMAPS), (2, ONE), (2, SUBMAPS)]
    assert rows[0]["keyframes"] == (home.room_of(walk.groundtruth) == 0).sum() and rows[2]["keyframes"] == 24
    assert [row["memories"] for row in rows[::2]] == [1, 1] and rows[3]["memories"] > 1 and rows[2]["steps"] == 16
    assert all(row["localization"]["median_m"] < 0.05 for row in rows)
    told = []
    again = list(measure(walk, tmp_path, [1, 2], (SUBMAPS,), 8, TINY, lambda text, part: told.append(text)))
    assert not any(text.startswith(SUBMAPS) for text in told)
    assert again[1]["steps"] == rows[3]["steps"] and again[1]["distillation_s"] == rows[3]["distillation_s"]
    assert "24 keyframes" in line(rows[3]) and "verified median" in line(rows[3])


@pytest.mark.parametrize("arguments, words", [(["--rooms", "0"], "1 to 64"), (["--steps", "0"], "1 or more"),
                                              (["--rounds", "0"], "1 to 20")])
def test_what_makes_no_sense_is_refused(arguments, words, tmp_path, capsys):
    try:
        assert main(["benchmark", "submaps", "--folder", str(tmp_path), "--quiet", *arguments]) == 2
    except SystemExit as error:
        assert error.code == 2
    assert words in capsys.readouterr().err
