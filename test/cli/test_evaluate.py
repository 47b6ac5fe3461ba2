"""vggt3 evaluate as it is typed: figures out, or one line that says what is wrong."""

import contextlib
import io
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from chromium import PROGRAM, WHY_NOT, Chromium
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


@pytest.fixture(scope="module")
def evaluated(folder, tmp_path_factory):
    """What one evaluation writes: out.json, plot.png, page.html, store/ and what it prints,
    printed.txt.
    """
    out = tmp_path_factory.mktemp("evaluated")
    arguments = ["evaluate", str(folder), "--odometry", "odometry.txt", "--queries", "queries.txt"]
    for option, name in (
        ("--out", "out.json"),
        ("--plot", "plot.png"),
        ("--report", "page.html"),
        ("--store", "store"),
    ):
        arguments += [option, str(out / name)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(arguments + QUICK) == 0
    (out / "printed.txt").write_text(printed.getvalue())
    return out


def test_writes_every_figure_a_table_and_a_plot(evaluated, folder, capsys):
    result = json.loads((evaluated / "out.json").read_text())
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
    printed = (evaluated / "printed.txt").read_text()
    assert f"{100 * result['corrected']['ate_m']:.2f} cm" in printed and "verified" in printed
    assert cv2.imread(str(evaluated / "plot.png")) is not None
    assert (evaluated / "store" / "keyframes.db").exists()
    assert main(["evaluate", str(folder), "--store", str(evaluated / "store")] + QUICK) == 2
    assert "already holds keyframes" in capsys.readouterr().err


@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_the_page_says_what_the_figures_say(evaluated, tmp_path):
    result = json.loads((evaluated / "out.json").read_text())
    with Chromium(tmp_path) as browser:
        browser.open(evaluated / "page.html")
        assert browser.messages == [] and browser.requests == []
        absent = "document.querySelectorAll('#error .absent, #localization .absent, #queries .absent, #setting .absent').length"
        assert browser.run(absent) == 0
        shown = browser.run(
            "[...document.querySelectorAll('[data-figure]')].map(e => [e.dataset.figure, e.dataset.value, e.textContent])"
        )
        told = {}
        for name, exact, text in shown:
            value = result
            for part in name.split("."):
                value = value[part]
            assert float(exact) == value, name
            number, unit = re.fullmatch(r"([\d.,]+)\s*(\S+)", text).groups()
            digits = len(number.partition(".")[2])
            scale = {"cm": 100, "%": 100}.get(unit, 1)
            assert float(number.replace(",", "")) == pytest.approx(
                scale * value, abs=0.51 * 10**-digits
            ), (name, text)
            told[name] = value
        assert {
            "odometry.ate_m",
            "corrected.ate_m",
            "corrected.rotation_deg",
            "map.median_error_m",
            "localization.within_5cm_5deg",
            "localization_memory.median_m",
            "seconds.loops",
            "peak_memory_mb",
        } <= set(told)
        # the curve goes through the shares that the table tells
        for way, name in (("memory", "localization_memory"), ("verified", "localization")):
            for limit, field in (("5.0", "within_5cm_5deg"), ("10.0", "within_10cm_10deg")):
                title = browser.run(
                    f"[...document.querySelectorAll('#localization .hover title')].map(t => t.textContent).filter("
                    f"t => t.includes('within {limit} cm') && t.includes('{'alone' if way == 'memory' else 'verified'}'))[0]"
                )
                assert title.startswith(f"{result[name][field]:.1%} within")
        assert browser.run("document.querySelector('path.way.truth').getTotalLength()") > 50
        for line in ("odometry", "corrected"):
            assert (
                browser.run(f"document.querySelector('#error path.{line}').getTotalLength()") > 100
            )
        assert browser.run("document.querySelectorAll('#error .hover title').length") == 2 * 12
        # each of the three queries beside what the map shows from the same pose
        assert browser.run("document.querySelectorAll('.query img').length") == 6
        likeness = browser.run(LIKENESS)
    assert len(likeness) == 3 and min(likeness) > 0.5


# Correlation of the brightness of the two images of each query, where the map shows anything.
LIKENESS = """[...document.querySelectorAll('.query')].map((query) => {
  const grey = [...query.querySelectorAll('img')].map((image) => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [80, 60];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, 80, 60);
    const data = context.getImageData(0, 0, 80, 60).data;
    return Array.from({length: 4800}, (_, k) => [data[4 * k], data[4 * k + 1], data[4 * k + 2]]);
  });
  const pairs = [];
  for (let k = 0; k < 4800; k++) {
    const [r, g, b] = grey[1][k];
    if (Math.abs(r - 222) + Math.abs(g - 222) + Math.abs(b - 222) > 12)
      pairs.push([0, 1].map((side) => grey[side][k][0] + grey[side][k][1] + grey[side][k][2]));
  }
  const mean = [0, 1].map((side) => pairs.reduce((sum, pair) => sum + pair[side], 0) / pairs.length);
  const product = (i, j) => pairs.reduce((sum, pair) => sum + (pair[i] - mean[i]) * (pair[j] - mean[j]), 0);
  return product(0, 1) / Math.sqrt(product(0, 0) * product(1, 1));
})"""


def test_where_the_page_cannot_be_written_is_said_before_anything_is_computed(
    folder, tmp_path, capsys
):
    page = tmp_path / "missing" / "page.html"
    store = tmp_path / "store"
    assert (
        main(["evaluate", str(folder), "--report", str(page), "--store", str(store)] + QUICK) == 2
    )
    assert "there is no folder" in capsys.readouterr().err and not store.exists()


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
    assert "scale is not observable from images" in capsys.readouterr().out
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
