"""rerun reads its file back."""

import subprocess
import sys

import pytest
from written_map import export, written_map


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return written_map(tmp_path_factory.mktemp("saved") / "map")


def test_the_rerun_file_holds_points_and_images(saved, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is an optional extra")
    export(saved[0], "--rerun", tmp_path / "map.rrd")
    printed = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "print", "-vv", str(tmp_path / "map.rrd")],
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr
    for entity in ("/map/points", "/map/trajectory", "/map/camera", "stamp"):
        assert entity in printed.stdout
