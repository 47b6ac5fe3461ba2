"""Points of .ply files."""

import numpy as np
import open3d
import pytest

from vggt3_ros.datasets import ply_points
from vggt3_ros.datasets.ply_points import read_points

POINTS = np.random.default_rng(0).normal(0, 10, (100, 3))


def save(path, points, ascii=False):
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    open3d.io.write_point_cloud(str(path), cloud, write_ascii=ascii)


@pytest.mark.parametrize("ascii", [False, True])
def test_points_come_back(tmp_path, ascii):
    save(tmp_path / "cloud.ply", POINTS, ascii)
    np.testing.assert_allclose(read_points(tmp_path / "cloud.ply"), POINTS, atol=1e-4)


def test_the_suffix_does_not_matter_and_unknown_points_are_left_out(tmp_path):
    points = POINTS.copy()
    points[3, 1] = np.nan
    save(tmp_path / "cloud.ply", points)
    (tmp_path / "cloud.ply").rename(tmp_path / "cloud")
    assert len(read_points(str(tmp_path / "cloud"))) == 99


@pytest.mark.parametrize("content", [b"", b"ply\n", b"no points"])
def test_a_file_without_points_is_refused(tmp_path, content):
    (tmp_path / "cloud.ply").write_bytes(content)
    with pytest.raises(ValueError, match="expected a PLY file with x, y, z"):
        read_points(tmp_path / "cloud.ply")


def test_a_missing_or_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is not a file of at most"):
        read_points(tmp_path / "none.ply")
    save(tmp_path / "cloud.ply", POINTS)
    monkeypatch.setattr(ply_points, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="is not a file of at most 100 bytes"):
        read_points(tmp_path / "cloud.ply")
