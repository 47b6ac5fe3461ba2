"""A map as PointCloud2 is the same map when it is read."""

import struct

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="messages are needed")

from std_msgs.msg import Header

from vggt3_ros.ros.output.clouds import from_cloud, to_cloud
from vggt3_ros.store.snapshot import PointMap


def point_map(count, origin=(0, 0, 0)):
    rng = np.random.default_rng(0)
    return PointMap.around(
        np.array(origin, float),
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.integers(0, 256, (count, 3), np.uint8),
        rng.random(count, np.float32),
    )


@pytest.mark.parametrize("origin", [(0, 0, 0), (500_000, 4_600_000, 0)])
def test_points_colours_and_confidence_are_read_back_from_the_origin_on(origin):
    cloud = point_map(50, origin)
    message = to_cloud(cloud, Header(frame_id="map"))
    assert (message.width, message.height, message.header.frame_id) == (50, 1, "map")
    assert message.row_step == len(message.data) == 50 * message.point_step
    read = from_cloud(message)
    points = np.stack([read[axis] for axis in "xyz"], axis=1)
    np.testing.assert_array_equal(points, cloud.around_origin)
    np.testing.assert_array_equal(read["confidence"], cloud.confidence)
    colors = np.stack([read["rgb"] >> shift & 255 for shift in (16, 8, 0)], axis=1)
    np.testing.assert_array_equal(colors, cloud.colors)


def test_colours_lie_where_pcl_and_rviz_look_for_them():
    cloud = PointMap(np.zeros((1, 3), np.float32), np.uint8([[1, 2, 3]]), np.ones(1, np.float32))
    message = to_cloud(cloud, Header())
    (field,) = (field for field in message.fields if field.name == "rgb")
    assert field.datatype == field.FLOAT32
    assert struct.unpack_from("=I", bytes(message.data), field.offset) == (0x010203,)


def test_an_empty_map_is_a_message_and_another_layout_is_refused():
    message = to_cloud(point_map(0), Header())
    assert message.width == 0 and len(from_cloud(message)) == 0
    message.fields = message.fields[:3]
    with pytest.raises(ValueError, match="cloud has fields \\['x', 'y', 'z'\\]"):
        from_cloud(message)
