"""Topic correction: how far the robot jumps when a refinement goes out. Limits on it:
test_correction_gate.py.
"""

import numpy as np
import pytest
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.msg import Correction

from vggt3_ros.ros import qos


def test_a_correction_says_how_far_the_robot_jumps(graph):
    backend = graph.backend()
    corrections = graph.listen(Correction, "correction", qos.EVENTS)
    graph.heard_by_all(backend, "correction")
    graph.refined(*[make_keyframe(id) for id in range(3)], backend=backend)
    until(lambda: corrections)
    first = corrections[0]
    assert (first.header.frame_id, first.generation, first.withheld) == ("map", 1, "")
    assert first.jump_translation == pytest.approx(1.0) and first.jump_rotation == pytest.approx(
        0, abs=1e-6
    )
    assert first.current.translation.x == pytest.approx(1.0) and first.previous.translation.x == 0
    assert first.largest_translation == pytest.approx(
        1.0
    ) and first.largest_rotation == pytest.approx(0, abs=1e-6)
    graph.refined(make_keyframe(3), backend=backend)
    until(lambda: len(corrections) >= 2)
    assert corrections[1].jump_translation == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        corrections[1].previous.translation.x, corrections[0].current.translation.x
    )
