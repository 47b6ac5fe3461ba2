"""Files that other tools read back."""

import numpy as np
import open3d as o3d

from vggt3_ros.geometry import se3
from vggt3_ros.mapping.export import write_ply, write_tum
from vggt3_ros.mapping.snapshot import PointMap


def test_open3d_reads_the_ply(tmp_path):
    rng = np.random.default_rng(0)
    cloud = PointMap(rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 256, (50, 3), np.uint8), rng.random(50, np.float32))
    write_ply(tmp_path / "map.ply", cloud)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    np.testing.assert_array_equal(read.positions.numpy(), cloud.points)
    np.testing.assert_array_equal(read.colors.numpy(), cloud.colors)
    np.testing.assert_array_equal(read.confidence.numpy().ravel(), cloud.confidence)


def test_tum_lines_keep_nanoseconds_and_poses(tmp_path):
    poses = se3.exp(np.random.default_rng(1).normal(size=(4, 6)))
    stamps = 1_700_000_000_123_456_789 + np.arange(4)
    write_tum(tmp_path / "t.txt", stamps, poses)
    lines = [line.split() for line in (tmp_path / "t.txt").read_text().splitlines()]
    assert [int(line[0].replace(".", "")) for line in lines] == stamps.tolist()
    numbers = np.array(lines)[:, 1:].astype(float)
    np.testing.assert_allclose(se3.from_quaternion(numbers[:, :3], numbers[:, 3:]), poses, atol=1e-7)
