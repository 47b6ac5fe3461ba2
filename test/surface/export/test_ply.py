"""Open3D reads the PLY back."""

import numpy as np
import open3d as o3d
from written_map import FAR, far_cloud

from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.surface.export import write_ply


def test_open3d_reads_the_ply(tmp_path):
    rng = np.random.default_rng(0)
    cloud = PointMap(
        rng.normal(size=(50, 3)).astype(np.float32),
        rng.integers(0, 256, (50, 3), np.uint8),
        rng.random(50, np.float32),
    )
    write_ply(tmp_path / "map.ply", cloud)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    np.testing.assert_array_equal(read.positions.numpy(), cloud.points)
    np.testing.assert_array_equal(read.colors.numpy(), cloud.colors)
    np.testing.assert_array_equal(read.confidence.numpy().ravel(), cloud.confidence)


def test_a_ply_of_coordinates_that_float32_cannot_carry_has_doubles(tmp_path):
    cloud = far_cloud(np.random.default_rng(0))
    write_ply(tmp_path / "map.ply", cloud)
    read = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    np.testing.assert_allclose(read.positions.numpy() - FAR, cloud.around_origin, atol=1e-6)
