"""vggt3 benchmark growth: its figures are those of refinements that really took place."""

import json

import pytest

from vggt3_ros.cli.main import main

QUICK = [word for pair in ("device=cpu", "map.voxel_size=0.06") for word in ("--set", pair)]


def run(tmp_path, *arguments):
    return main(
        [
            "benchmark",
            "growth",
            "--add",
            "2",
            "--batch",
            "6",
            "--repeat",
            "1",
            "--folder",
            str(tmp_path),
            "--quiet",
            "--clock",
            "cpu",
            *QUICK,
            *arguments,
        ]
    )


def test_each_number_of_keyframes_has_its_row_and_the_map_is_scored(tmp_path, capsys):
    assert run(tmp_path, "--keyframes", "6,12", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    small, large = result["rows"]
    assert (small["keyframes"], large["keyframes"]) == (6, 12)
    for row in result["rows"]:
        assert {"features", "loops", "pose_graph", "fusion", "memory", "publish", "total"} <= set(
            row["seconds"]
        )
        assert row["points"] > 1000 and row["peak_memory_mb"] > 100
        assert row["seconds"]["without_solve"] == pytest.approx(
            row["seconds"]["total"] - row["seconds"]["pose_graph"]
        )
    assert large["points"] > small["points"]
    assert result["ratio"]["fusion"] == pytest.approx(
        large["seconds"]["fusion"] / small["seconds"]["fusion"]
    )
    assert result["ate_m"] < 0.05 and result["map_median_error_m"] < 0.05
    # nothing is left to do
    assert (
        run(tmp_path, "--keyframes", "6,12", "--json") == 0
        and json.loads(capsys.readouterr().out) == result
    )
    assert (
        run(tmp_path, "--keyframes", "6,12", "--set", "map.voxel_size=0.05") == 2
        and "another setting" in capsys.readouterr().err
    )


def test_numbers_that_leave_no_room_are_refused(tmp_path, capsys):
    assert run(tmp_path, "--keyframes", "12,6") == 2 and "increase" in capsys.readouterr().err
    assert run(tmp_path, "--keyframes", "6,7") == 2 and "by at least 2" in capsys.readouterr().err
