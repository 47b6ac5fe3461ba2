"""Topic status_marker: the status as a text in RViz, above the newest camera; red where something
is wrong.
"""

import numpy as np
from fake_backend import SHIFT
from random_keyframes import make_keyframe
from ros_graph import until
from visualization_msgs.msg import Marker


def test_it_tells_the_counts_above_the_newest_camera(graph):
    backend = graph.backend()
    heard = graph.listen(Marker, "status_marker")
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(
        lambda: (
            heard
            and heard[-1].text.startswith(
                "idle\nmap 1: 2 of 2 keyframes, 100 points\nloops: 1 accepted, 1 rejected"
            )
        )
    )
    marker = heard[-1]
    assert (marker.header.frame_id, marker.type, marker.action) == (
        "map",
        Marker.TEXT_VIEW_FACING,
        Marker.ADD,
    )
    camera = (SHIFT @ make_keyframe(1).T_odom_cam)[:3, 3]
    np.testing.assert_allclose([marker.pose.position.x, marker.pose.position.y], camera[:2])
    assert 0.1 < marker.pose.position.z - camera[2] < 1.0 and marker.color.g == 1.0


def test_what_is_wrong_is_in_red(graph):
    graph.backend(wait=False, device="cuda:99")
    heard = graph.listen(Marker, "status_marker")
    until(lambda: heard and "cuda:99 does not exist" in heard[-1].text)
    assert (
        heard[-1].text.startswith("fault") and heard[-1].color.r == 1.0 and heard[-1].color.g < 0.5
    )
