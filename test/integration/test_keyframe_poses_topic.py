"""Topic keyframe_poses: ids, stamps, corrected poses with covariance, by stamp; latched, and empty
when the map is forgotten.
"""

import numpy as np
from fake_backend import SHIFT
from random_keyframes import make_keyframe
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros_graph import until
from vggt3_ros.msg import KeyframePoses
from vggt3_ros.srv import Reset

from vggt3_ros.messages.reading import to_nanoseconds, to_transform


def test_a_late_subscriber_gets_every_keyframe_at_its_corrected_pose(graph):
    backend = graph.backend()
    # ids fall as stamps rise
    frames = [make_keyframe(id, stamp_ns=10**18 - id) for id in range(4)]
    graph.refined(*reversed(frames), backend=backend)
    heard = graph.listen(KeyframePoses, "keyframe_poses")
    until(lambda: heard)
    message, in_order = heard[0], frames[::-1]
    assert (message.header.frame_id, message.generation, list(message.ids)) == (
        "map",
        1,
        [3, 2, 1, 0],
    )
    assert to_nanoseconds(message.header.stamp) == frames[0].stamp_ns
    assert [to_nanoseconds(stamp) for stamp in message.stamps] == [
        frame.stamp_ns for frame in in_order
    ]
    for frame, pose in zip(in_order, message.poses, strict=True):
        np.testing.assert_allclose(to_transform(pose.pose), SHIFT @ frame.T_odom_cam, atol=1e-9)
        np.testing.assert_allclose(
            np.reshape(pose.covariance, (6, 6)), np.diag([1, 2, 3, 4, 5, 6]) * 1e-4
        )
    graph.call(Reset, "reset", Reset.Request())
    until(lambda: not heard[-1].ids and not heard[-1].generation)


def test_it_is_reliable_and_latched(graph):
    graph.backend(wait=False)
    (publisher,) = until(lambda: graph.client.get_publishers_info_by_topic("/keyframe_poses"))
    assert publisher.topic_type == "vggt3_ros/msg/KeyframePoses"
    assert publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
