"""Topic loop_markers: the loops as lines for RViz; latched."""

import numpy as np
from fake_backend import SHIFT
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.srv import Reset
from visualization_msgs.msg import Marker, MarkerArray


def test_loops_are_lines_between_keyframes_for_rviz_and_go_with_the_map(graph):
    backend = graph.backend()
    frames = [make_keyframe(id) for id in range(4)]
    graph.refined(*frames, backend=backend)
    arrays = graph.listen(MarkerArray, "loop_markers")
    until(lambda: arrays)
    lines = {marker.ns: marker for marker in arrays[-1].markers}
    assert set(lines) == {"accepted", "rejected"}
    for name, ends in (("accepted", (0, 3)), ("rejected", (3, 0))):
        assert (lines[name].type, lines[name].action, lines[name].header.frame_id) == (
            Marker.LINE_LIST,
            Marker.ADD,
            "map",
        )
        np.testing.assert_allclose(
            [[p.x, p.y, p.z] for p in lines[name].points],
            [(SHIFT @ frames[end].T_odom_cam)[:3, 3] for end in ends],
        )
    graph.call(Reset, "reset", Reset.Request())
    until(lambda: [marker.action for marker in arrays[-1].markers] == [Marker.DELETEALL])
