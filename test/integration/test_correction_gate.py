"""Parameters gate.*: a correction beyond them is published and explained, but not broadcast on
TF.
"""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from random_keyframes import make_keyframe
from rclpy.parameter import Parameter
from ros_graph import until
from tf2_msgs.msg import TFMessage
from vggt3_ros.msg import Correction, KeyframePoses

from vggt3_ros.ros import qos


def test_a_correction_beyond_the_gate_is_withheld_until_the_gate_allows_it(graph):
    backend = graph.backend(gate__translation=0.5)  # the fake back end corrects by 1 m
    corrections, heard = (
        graph.listen(Correction, "correction", qos.EVENTS),
        graph.listen(TFMessage, "/tf", qos.TF),
    )
    diagnostics, status = graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS), graph.status()
    poses = graph.listen(KeyframePoses, "keyframe_poses")
    graph.heard_by_all(backend, "correction")
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: corrections and poses and status and status[-1].withheld)
    assert "1.00 m" in status[-1].withheld and "gate.translation" in status[-1].withheld
    assert corrections[0].withheld == status[-1].withheld and corrections[
        0
    ].jump_translation == pytest.approx(1.0)
    assert list(poses[-1].ids) == [0, 1]  # the map is the corrected one
    warned = until(
        lambda: [d.status[0] for d in diagnostics if "gate.translation" in d.status[0].message]
    )
    assert warned[0].level == DiagnosticStatus.WARN
    heard.clear()
    until(lambda: len(heard) > 3)
    assert all(message.transforms[0].transform.translation.x == 0 for message in heard)

    assert backend.set_parameters([Parameter("gate.translation", value=2.0)])[0].successful
    until(lambda: heard[-1].transforms[0].transform.translation.x == pytest.approx(1.0))
    until(lambda: not status[-1].withheld)


def test_a_restarted_node_broadcasts_the_stored_correction_whatever_the_gate(graph):
    first = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=first)
    graph.stop(first)
    second = graph.backend(wait=False, gate__translation=0.5)
    np.testing.assert_allclose(second._core.map_odom.T_map_odom[0, 3], 1.0)
    assert not second._core.map_odom.withheld
