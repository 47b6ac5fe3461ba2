"""Service reset: everything is forgotten, and a new run may begin."""

import numpy as np
from nav_msgs.msg import Path
from random_keyframes import make_keyframe
from ros_graph import until
from sensor_msgs.msg import PointCloud2
from vggt3_ros.srv import Reset


def test_reset_forgets_the_map_everywhere_and_a_new_run_may_reuse_ids_and_stamps(graph):
    backend = graph.backend()
    paths, clouds = graph.listen(Path, "path"), graph.listen(PointCloud2, "map")
    graph.refined(make_keyframe(5), make_keyframe(6), backend=backend)
    until(lambda: paths and clouds)
    answer = graph.call(Reset, "reset", Reset.Request())
    assert (answer.error_code, answer.keyframes) == (Reset.Response.NONE, 2)
    until(lambda: not paths[-1].poses and clouds[-1].width == 0)
    assert np.array_equal(backend._core.map_odom.T_map_odom, np.eye(4))
    graph.send(make_keyframe(5, stamp_ns=1000), odom_frame="other_odom")
    until(lambda: len(backend._core.store) == 1)
    assert backend._core.intake.odom_frame == "other_odom"


def test_reset_ends_a_running_refinement(graph):
    backend = graph.backend(memory__steps=10_000)
    graph.send(make_keyframe(0), make_keyframe(1))
    until(lambda: len(backend._core.store) == 2)
    wish = backend._core.refinery.request()
    until(lambda: backend._core.refinery.running)
    assert graph.call(Reset, "reset", Reset.Request()).keyframes == 2
    until(wish.done)
    assert wish.exception().code == "cancelled" and backend._core.snapshot is None
