"""vggt3 evaluate as it is typed: figures out, or one line that says what is wrong."""

import json
import shutil

import cv2
import numpy as np
import pytest
from folders import SHARED

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.datasets.tum import load_tum, write_tum

QUICK = ["--quiet", "--set", "map.voxel_size=0.05", "--set", "device=cpu"]
KITCHEN = SHARED / "kitchen"


def write(folder, rendered, count):
    """The first keyframes of the rendered home and three queries, which are keyframes, in the TUM
    layout.
    """
    some = rendered.keyframes[:count]
    keyframes = KeyframeList(
        rendered.camera,
        rendered.stamps_ns[:count],
        rendered.T_odom_cam[:count],
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    queries = [
        Query(
            int(rendered.stamps_ns[-1]) + (k + 1) * 10**9,
            lambda k=k: some[2 * k + 1].image,
            rendered.T_world_cam[2 * k + 1],
        )
        for k in range(3)
    ]
    write_tum(
        folder,
        Sequence(
            "some",
            rendered.camera,
            rendered.stamps_ns[:count],
            keyframes,
            rendered.T_world_cam[:count],
            queries,
        ),
    )
    return folder


@pytest.fixture(scope="module")
def folder(rendered, tmp_path_factory):
    return write(tmp_path_factory.mktemp("tum"), rendered, 12)


def test_writes_every_figure_a_table_and_a_plot(folder, tmp_path, capsys):
    out, plot = tmp_path / "out.json", tmp_path / "plot.png"
    assert (
        main(
            [
                "evaluate",
                str(folder),
                "--odometry",
                "odometry.txt",
                "--queries",
                "queries.txt",
                "--out",
                str(out),
                "--plot",
                str(plot),
                "--store",
                str(tmp_path / "store"),
            ]
            + QUICK
        )
        == 0
    )
    result = json.loads(out.read_text())
    assert 0 < result["corrected"]["ate_m"] < 0.05 and result["corrected"]["rotation_deg"] >= 0
    assert result["odometry"]["ate_m"] > 0
    for part in ("localization", "localization_memory"):
        assert {
            "median_m",
            "median_deg",
            "within_5cm_5deg",
            "within_10cm_10deg",
            "seconds_per_query",
        } <= set(result[part])
        assert result[part]["queries"] == 3
    assert result["localization"]["within_5cm_5deg"] > 0.5  # the queries are keyframes
    assert result["map"]["points"] > 1000 and 0 < result["map"]["median_error_m"] < 0.05
    assert {"features", "loops", "pose_graph", "fusion", "memory", "total"} <= set(
        result["seconds"]
    )
    assert result["peak_memory_mb"] > 100
    printed = capsys.readouterr().out
    assert f"{100 * result['corrected']['ate_m']:.2f} cm" in printed and "verified" in printed
    assert cv2.imread(str(plot)) is not None
    assert (tmp_path / "store" / "keyframes.db").exists()
    assert main(["evaluate", str(folder), "--store", str(tmp_path / "store")] + QUICK) == 2
    assert "already holds keyframes" in capsys.readouterr().err


def test_fixed_poses_are_scored_as_they_are_given(folder, tmp_path):
    out = tmp_path / "out.json"
    assert (
        main(
            [
                "evaluate",
                str(folder),
                "--odometry",
                "groundtruth.txt",
                "--fixed-poses",
                "--out",
                str(out),
            ]
            + QUICK
        )
        == 0
    )
    result = json.loads(out.read_text())
    assert (
        result["corrected"]["ate_m"] == pytest.approx(result["odometry"]["ate_m"], abs=1e-9)
        and result["odometry"]["ate_m"] < 1e-4
    )
    assert result["map"]["median_error_m"] < 1e-3


def test_a_camera_without_depth_is_mapped_too_and_compared_after_sim3(rendered, tmp_path, capsys):
    """Twenty keyframes: the first dozen lie on a line, which leaves the rotation to the truth
    open.
    """
    blind = write(tmp_path / "blind", rendered, 20)
    out = tmp_path / "out.json"
    assert main(["evaluate", str(blind), "--no-depth", "--out", str(out)] + QUICK) == 0
    result = json.loads(out.read_text())
    assert (
        result["map"]["points"] > 1000
        and result["corrected"]["ate_m"] < result["odometry"]["ate_m"]
    )
    assert (
        result["sim3"]["corrected"]["ate_m"] < min(0.03, result["corrected"]["ate_m"])
        and result["sim3"]["map"]["median_error_m"] < 0.05
    )
    assert (
        result["localization"]["localized"] == 1
        and result["sim3"]["localization"]["within_10cm_10deg"] == 1
    )
    assert "images do not tell scale" in capsys.readouterr().out
    (blind / "depth.txt").unlink()
    assert (
        main(["evaluate", str(blind), "--out", str(out), "--set", "depth.estimate=never"] + QUICK)
        == 0
    )
    result = json.loads(out.read_text())
    assert result["map"]["points"] == 0 and result["corrected"]["ate_m"] == pytest.approx(
        result["odometry"]["ate_m"], rel=0.5
    )
    assert result["localization"]["localized"] == 0 and result["localization"]["median_m"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere does not exist"),
        (["FOLDER", "--odometry", "none.txt"], "none.txt is missing"),
        (["FOLDER", "--queries", "none.txt"], "none.txt is missing"),
        (["FOLDER", "--set", "memory.step=3"], "memory.step"),
        (["FOLDER", "--set", "memory.steps=many"], "takes a int"),
        (["FOLDER", "--set", "memory.steps=-1"], "memory.steps must be 0 to"),
        (["FOLDER", "--set", "device=tpu9000"], "tpu9000"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, capsys, arguments, message):
    assert (
        main(["evaluate"] + [str(folder) if a == "FOLDER" else a for a in arguments] + ["--quiet"])
        == 2
    )
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("vggt3: ") and "\n" not in error


def test_truth_is_needed(folder, tmp_path, capsys):
    lacking = shutil.copytree(folder, tmp_path / "lacking")
    (lacking / "groundtruth.txt").unlink()
    assert main(["evaluate", str(lacking)] + QUICK) == 2
    assert "no ground truth" in capsys.readouterr().err


@pytest.mark.skipif(
    not (KITCHEN / "rgb.txt").exists(), reason="the recorded kitchen is not beside this checkout"
)
def test_recorded_images_with_drifting_odometry_are_corrected(tmp_path):
    """The first 40 keyframes of a real RGB-D sequence."""
    kitchen = load_tum(KITCHEN, odometry=KITCHEN / "odometry.txt")
    keyframes = KeyframeList(
        kitchen.camera,
        kitchen.stamps_ns[:40],
        kitchen.T_odom_cam[:40],
        kitchen.keyframes.load_image,
        kitchen.keyframes.load_depth,
    )
    write_tum(
        tmp_path / "start",
        Sequence(
            "start", kitchen.camera, kitchen.stamps_ns[:40], keyframes, kitchen.groundtruth[:40]
        ),
    )
    assert (
        main(["evaluate", str(tmp_path / "start"), "--out", str(tmp_path / "out.json")] + QUICK)
        == 0
    )
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["corrected"]["ate_m"] < result["odometry"]["ate_m"]
    assert result["loops"]["loops_accepted"] > 40 and np.isfinite(result["map"]["median_error_m"])
