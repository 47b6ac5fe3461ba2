"""Our small numpy routines against the libraries of a ROS distribution, where one is sourced."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import PointMap


def test_quaternions_agree_with_tf_transformations():
    transformations = pytest.importorskip(
        "tf_transformations", reason="tf_transformations comes with a ROS distribution"
    )
    for quaternion in Rotation.random(20, rng=0).as_quat():
        ours = se3.from_quaternion(np.zeros(3), quaternion)
        assert np.allclose(ours, transformations.quaternion_matrix(quaternion), atol=1e-9)


def test_clouds_read_back_by_sensor_msgs_py():
    point_cloud2 = pytest.importorskip(
        "sensor_msgs_py.point_cloud2", reason="sensor_msgs_py comes with a ROS distribution"
    )
    from std_msgs.msg import Header

    from vggt3_ros.ros.output.clouds import to_cloud

    rng = np.random.default_rng(0)
    cloud = PointMap(
        rng.normal(size=(50, 3)).astype(np.float32),
        rng.integers(0, 256, (50, 3), np.uint8),
        rng.random(50, np.float32),
    )
    read = point_cloud2.read_points(
        to_cloud(cloud, Header(frame_id="map")), field_names=("x", "y", "z", "confidence")
    )
    assert np.allclose(np.stack([read[name] for name in "xyz"], -1), cloud.points)
    assert np.allclose(read["confidence"], cloud.confidence)
