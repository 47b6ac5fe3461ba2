"""TF: map->odom at 20 Hz, stamped ahead of now; identity before the first refinement;
switchable.
"""

import time

import numpy as np
from fake_backend import SHIFT
from random_keyframes import make_keyframe
from rclpy.parameter import Parameter
from ros_graph import until
from tf2_msgs.msg import TFMessage

from vggt3_ros.messages.reading import to_nanoseconds
from vggt3_ros.ros import qos
from vggt3_ros.ros.output.map_odom import Stamps


def test_map_to_odom_is_identity_then_corrected_and_always_ahead_of_now(graph):
    backend = graph.backend(transform_tolerance=0.2)
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    graph.send(make_keyframe(0), make_keyframe(1), odom_frame="robot/odom")
    until(lambda: len(heard) > 3)
    first = heard[-1].transforms[0]
    assert (first.header.frame_id, first.child_frame_id) == ("map", "robot/odom")
    assert (first.transform.translation.x, first.transform.rotation.w) == (0.0, 1.0)
    graph.wait(backend._core.refinery.request())
    until(lambda: abs(heard[-1].transforms[0].transform.translation.x - 1.0) < 1e-9)
    stamps, ahead = [], []

    def hear(message):
        stamps.append(to_nanoseconds(message.transforms[0].header.stamp) / 1e9)
        ahead.append(stamps[-1] - graph.client.get_clock().now().nanoseconds / 1e9)

    graph.client.create_subscription(TFMessage, "/tf", hear, qos.TF)
    # A busy machine delays a message and skips a turn, but not for ever; it never makes them come
    # early or too often.
    until(
        lambda: len(stamps) >= 20 and max(ahead) > 0.1 and np.median(np.diff(stamps)[-20:]) < 0.075
    )
    assert max(ahead) <= 0.2
    assert np.diff(stamps).min() > 0 and np.diff(stamps).mean() > 0.04


def test_tf_can_be_switched_off_while_running(graph):
    backend = graph.backend()
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    graph.send(make_keyframe(0))
    until(lambda: heard)
    assert backend.set_parameters([Parameter("publish_tf", value=False)])[0].successful
    switched_off = graph.client.get_clock().now().nanoseconds
    time.sleep(0.3)
    tolerance, turn = 0.1, 0.05  # one may have been on its way
    assert not [
        m
        for m in heard
        if to_nanoseconds(m.transforms[0].header.stamp) > switched_off + (tolerance + turn) * 1e9
    ]


def test_without_publish_tf_nothing_is_sent_and_the_map_is_the_same(graph):
    backend = graph.backend(publish_tf=False)
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    snapshot = graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    np.testing.assert_allclose(snapshot.T_map_odom, SHIFT, atol=1e-9)
    time.sleep(0.3)
    assert not heard


def test_stamps_grow_while_time_stands_still_and_follow_it_when_it_goes_back():
    stamps = Stamps()
    assert [stamps.after(wanted) for wanted in (100, 100, 100, 101, 102, 110, 110)] == [
        100,
        101,
        102,
        103,
        104,
        110,
        111,
    ]
    assert [stamps.after(wanted) for wanted in (50, 50, 60)] == [50, 51, 60]
