"""Files that other tools read back."""

import numpy as np
import open3d as o3d

from vggt3_ros.mapping.export import write_ply
from vggt3_ros.mapping.snapshot import PointMap


def test_open3d_reads_the_ply(tmp_path):
    rng = np.random.default_rng(0)
    cloud = PointMap(rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 256, (50, 3), np.uint8), rng.random(50, np.float32))
    write_ply(tmp_path / "map.ply", cloud)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    np.testing.assert_array_equal(read.positions.numpy(), cloud.points)
    np.testing.assert_array_equal(read.colors.numpy(), cloud.colors)
    np.testing.assert_array_equal(read.confidence.numpy().ravel(), cloud.confidence)
