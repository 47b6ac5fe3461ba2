"""The whole of `vggt3 benchmark peers` with its cheap contenders: rows, table, pictures, and what
is refused.
"""

import json

import cv2
import pytest

from vggt3_ros.cli.main import main


def test_the_whole_command(peers_folder, tmp_path, capsys):
    """One contender of each kind; ORB-SLAM3 is not installed."""
    names = ["odometry", "colmap-xfeat", "orbslam3", "vggt3-posed-memory"]
    only = [word for name in names for word in ("--only", name)]
    out = tmp_path / "out"
    command = ["benchmark", "peers", str(peers_folder), "--out", str(out), "--quiet", *only]
    assert main([*command, "--set", "device=cpu"]) == 0
    printed = capsys.readouterr().out
    rows = {row["contender"]: row for row in json.loads((out / "peers.json").read_text())["rows"]}
    assert list(rows) == names and (out / "peers.md").read_text() in printed + "\n"
    assert "pip install numpy pyorbslam3" in rows["orbslam3"]["failure"]
    assert "- ORB-SLAM3: not installed" in printed
    assert rows["odometry"]["ate_m"] > 0.01 and rows["odometry"]["metric"]
    colmap = rows["colmap-xfeat"]
    assert colmap["ate_scaled_m"] < 0.02 and "ate_m" not in colmap and "scale free" in printed
    posed = rows["vggt3-posed-memory"]
    assert posed["knows_poses"] and posed["localization"]["within_5cm_5deg"] > 0.5
    for row in (rows["odometry"], colmap, posed):
        assert row["keyframes"] == 12 and row["peak_memory_mb"] > 100
        assert 0 <= row["seconds"] <= row["process_seconds"]
        assert row["cpu_seconds"] <= 64 * row["process_seconds"]
    for kind in ("recall", "error"):
        picture = cv2.imread(str(out / f"corner-{kind}.png"))
        assert picture.shape[0] > 300 and picture.std() > 10
    assert len(list((out / "logs").iterdir())) == 4


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--time-limit", "0"], "--time-limit"),
        (["--hold-out", "1"], "--hold-out"),
        (["--only", "orb"], "no contender is called 'orb'"),
        (["--set", "no.such=1"], "no.such"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words, tmp_path, capsys):
    assert main(["benchmark", "peers", str(tmp_path), "--quiet", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_that_is_no_data_set_is_refused(tmp_path, capsys):
    assert main(["benchmark", "peers", str(tmp_path), "--quiet"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
