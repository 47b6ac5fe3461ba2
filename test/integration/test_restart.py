"""A restarted node: the last map is served before anything new comes."""

import pytest
from random_keyframes import make_keyframe
from ros_graph import until
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vggt3_ros.msg import KeyframePoses

from vggt3_ros.ros import qos


def test_a_restarted_node_serves_the_last_map_before_any_new_keyframe(graph):
    first = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=first)
    graph.stop(first)
    graph.backend(wait=False)
    poses, clouds, heard = (
        graph.listen(KeyframePoses, "keyframe_poses"),
        graph.listen(PointCloud2, "map"),
        graph.listen(TFMessage, "/tf", qos.TF),
    )
    until(lambda: poses and clouds and heard)
    assert list(poses[0].ids) == [0, 1] and clouds[0].width == 100
    assert heard[-1].transforms[0].child_frame_id == "odom" and heard[-1].transforms[
        0
    ].transform.translation.x == pytest.approx(1.0)
