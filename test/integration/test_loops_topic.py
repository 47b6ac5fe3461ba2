"""Topic loops: every loop that was tried, accepted or rejected and why; latched."""

import numpy as np
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.msg import Loops
from vggt3_ros.srv import Reset

from vggt3_ros.messages.reading import to_transform


def test_a_late_subscriber_gets_accepted_and_rejected_loops(graph):
    backend = graph.backend()
    graph.refined(*[make_keyframe(id) for id in range(4)], backend=backend)
    heard = graph.listen(Loops, "loops")
    until(lambda: heard)
    assert (heard[0].header.frame_id, heard[0].generation) == ("map", 1)
    accepted, rejected = heard[0].loops
    assert (
        accepted.source_id,
        accepted.target_id,
        accepted.accepted,
        accepted.reason,
        accepted.origin,
        accepted.inliers,
    ) == (0, 3, True, "", "memory", 50)
    np.testing.assert_array_equal(to_transform(accepted.t_source_target), np.eye(4))
    np.testing.assert_array_equal(np.reshape(accepted.information, (6, 6)), np.eye(6))
    assert (accepted.residual_translation, accepted.residual_rotation) == (0.01, 0.02)
    assert (rejected.accepted, rejected.reason, rejected.origin, rejected.inliers) == (
        False,
        "too few inliers",
        "place",
        5,
    )
    assert not np.any(rejected.information) and np.isnan(rejected.residual_translation)
    graph.call(Reset, "reset", Reset.Request())
    until(lambda: not heard[-1].loops)
