"""vggt3 export: what it writes and what it refuses."""

import numpy as np
import open3d as o3d
import pytest
from written_map import export, written_map

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.tum_files import read_trajectory_tum


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return written_map(tmp_path_factory.mktemp("saved") / "map")


def test_trajectory_and_thinned_points(saved, tmp_path):
    folder, poses, stamps, _, cloud = saved
    export(folder, "--tum", tmp_path / "t.txt", "--ply", tmp_path / "m.ply", "--max-points", 500)
    read_stamps, read_poses = read_trajectory_tum(tmp_path / "t.txt")
    np.testing.assert_array_equal(read_stamps, stamps)
    np.testing.assert_allclose(read_poses, poses, atol=1e-6)
    points = o3d.t.io.read_point_cloud(str(tmp_path / "m.ply")).point.positions.numpy()
    assert len(points) == 500 and set(map(tuple, points)) <= set(map(tuple, cloud.points))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["MAP"], "nothing to write"),
        (["nowhere", "--tum", "t"], "is not a saved map"),
        (["MAP", "--gltf", "x.obj"], "must end in .glb or .gltf"),
        (["MAP", "--ply", "x", "--max-points", "0"], "--max-points must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    saved, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *[str(saved[0]) if a == "MAP" else a for a in arguments]]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
