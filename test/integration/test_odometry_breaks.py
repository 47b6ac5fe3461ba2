"""That the front end lost track is told where people and machines look: loops, status,
diagnostics.
"""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_backend import LOST
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.msg import Loops

from vggt3_ros.ros import qos
from vggt3_ros.ros.output.status import RECENT

TEXT = f"odometry broke between keyframes 1000 and {LOST}: off by 0.28 m and 24 deg"


def test_a_break_is_on_every_topic_and_a_warning_until_more_keyframes_came(graph):
    backend = graph.backend()
    heard, loops, diagnostics = (
        graph.status(),
        graph.listen(Loops, "loops"),
        graph.listen(DiagnosticArray, "/diagnostics", qos.EVENTS),
    )
    graph.refined(make_keyframe(999), make_keyframe(1000), make_keyframe(LOST), backend=backend)
    until(lambda: heard and heard[-1].odometry_msg and loops)
    assert heard[-1].odometry_msg == TEXT
    (told,) = loops[-1].odometry_breaks
    assert (told.before, told.after, round(told.translation, 3)) == (1000, LOST, 0.285) and abs(
        told.rotation - 0.4189
    ) < 1e-3
    warned = lambda: [d.status[0] for d in diagnostics if TEXT in d.status[0].message]
    assert until(warned)[0].level == DiagnosticStatus.WARN
    graph.refined(*[make_keyframe(LOST + 1 + k) for k in range(RECENT)], backend=backend)
    until(
        lambda: (
            heard[-1].keyframes_refined == RECENT + 3
            and diagnostics[-1].status[0].level == DiagnosticStatus.OK
        )
    )
    assert heard[-1].odometry_msg == TEXT
