"""Parameter use_sim_time: stamps are those of /clock; before it begins nothing is stamped; a
simulation may pause and begin anew.
"""

import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from random_keyframes import make_keyframe
from ros_graph import until
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from vggt3_ros.messages.reading import to_nanoseconds
from vggt3_ros.ros import qos

SECOND = 10**9


def test_tf_status_and_diagnostics_live_in_simulated_time(graph):
    backend = graph.backend(use_sim_time=True, transform_tolerance=0.5)
    clock = graph.client.create_publisher(Clock, "/clock", 10)
    heard, status = graph.listen(TFMessage, "/tf", qos.TF), graph.status()
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS)
    graph.send(make_keyframe(0, stamp_ns=900 * SECOND))
    until(lambda: len(backend._core.store) == 1)
    time.sleep(0.3)
    assert not heard  # there is no time to stamp it with

    def tell(seconds):
        clock.publish(Clock(clock=Time(sec=seconds)))
        return heard and heard[-1].transforms[0].header.stamp == Time(
            sec=seconds, nanosec=500_000_000
        )

    until(lambda: tell(1000))
    until(
        lambda: (
            status[-1].stamp.sec == 1000
            and any(message.header.stamp.sec == 1000 for message in list(diagnostics))
        )
    )
    count = len(heard)
    # time stands still, the broadcast goes on: whoever comes now gets it too
    until(lambda: len(heard) > count + 3)
    graph.send(make_keyframe(1, stamp_ns=901 * SECOND))
    until(lambda: len(backend._core.store) == 2)
    graph.wait(backend._core.refinery.request())
    until(lambda: abs(heard[-1].transforms[0].transform.translation.x - 1.0) < 1e-9)
    # Of two with the same stamp tf2 keeps the first: the correction has a later one.
    stamps = [to_nanoseconds(message.transforms[0].header.stamp) for message in heard[count:]]
    assert (
        stamps == sorted(set(stamps))
        and stamps[0] >= 1_000_500_000_000
        and stamps[-1] < 1_000_500_000_000 + 10**6
    )
    until(lambda: tell(7))  # the simulation began anew


def test_a_refinement_is_due_by_real_time_while_simulated_time_stands(graph):
    backend = graph.backend(use_sim_time=True, refine_every_seconds=0.5)
    graph.send(make_keyframe(0), make_keyframe(1))
    assert len(until(lambda: backend._core.snapshot)) == 2
