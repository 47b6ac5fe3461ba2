"""Topic path: corrected poses by stamp, each with its own stamp; latched; replaced by each
refinement, empty after a reset.
"""

import numpy as np
from fake_backend import SHIFT
from nav_msgs.msg import Path
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.srv import Reset

from vggt3_ros.messages.reading import to_nanoseconds, to_transform


def test_a_late_subscriber_gets_the_path_and_then_each_longer_one(graph):
    backend = graph.backend(map_frame="world")
    frames = [make_keyframe(id) for id in range(4)]
    graph.refined(*frames[:3], backend=backend)
    paths = graph.listen(Path, "path")
    until(lambda: paths)
    graph.refined(frames[3], backend=backend)
    until(lambda: len(paths[-1].poses) == 4)
    for path, shown in ((paths[0], frames[:3]), (paths[-1], frames)):
        assert path.header.frame_id == "world"
        for frame, step in zip(shown, path.poses, strict=True):
            np.testing.assert_allclose(
                to_transform(step.pose), SHIFT @ frame.T_odom_cam, atol=1e-9
            )
            assert (
                to_nanoseconds(step.header.stamp) == frame.stamp_ns
                and step.header.frame_id == "world"
            )
    graph.call(Reset, "reset", Reset.Request())
    until(lambda: not paths[-1].poses)
