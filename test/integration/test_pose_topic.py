"""Topic pose: the newest keyframe's camera in the map after each refinement. In localization mode:
test_set_mode_service.py.
"""

import numpy as np
from fake_backend import SHIFT
from geometry_msgs.msg import PoseWithCovarianceStamped
from random_keyframes import make_keyframe
from ros_graph import until

from vggt3_ros.messages.reading import to_nanoseconds, to_transform
from vggt3_ros.ros import qos


def test_it_is_that_of_the_newest_keyframe_with_its_covariance(graph):
    backend = graph.backend()
    poses = graph.listen(PoseWithCovarianceStamped, "pose", qos.EVENTS)
    graph.heard_by_all(backend, "pose")
    newest = make_keyframe(0, stamp_ns=1_710_000_000 * 10**9)
    for frames in ((make_keyframe(2), make_keyframe(3)), (newest,)):
        graph.refined(*frames, backend=backend)
    until(lambda: len(poses) >= 2)
    for message, frame in zip(poses, (make_keyframe(3), newest)):
        assert (
            message.header.frame_id == "map"
            and to_nanoseconds(message.header.stamp) == frame.stamp_ns
        )
        np.testing.assert_allclose(
            to_transform(message.pose.pose), SHIFT @ frame.T_odom_cam, atol=1e-9
        )
        np.testing.assert_allclose(
            np.reshape(message.pose.covariance, (6, 6)), np.diag([1, 2, 3, 4, 5, 6]) * 1e-4
        )
