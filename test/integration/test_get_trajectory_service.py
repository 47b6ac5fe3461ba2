"""Service get_trajectory: corrected or odometry, whole or a stretch."""

import numpy as np
from fake_backend import SHIFT
from random_keyframes import make_keyframe
from ros_graph import until
from vggt3_ros.srv import GetTrajectory

from vggt3_ros.messages.reading import to_nanoseconds, to_transform
from vggt3_ros.ros.conversions import from_nanoseconds

CORRECTED, ODOMETRY, CODES = (
    GetTrajectory.Request.CORRECTED,
    GetTrajectory.Request.ODOMETRY,
    GetTrajectory.Response,
)


def ask(graph, source=CORRECTED, start=0, end=0):
    return graph.call(
        GetTrajectory,
        "get_trajectory",
        GetTrajectory.Request(
            source=source, start=from_nanoseconds(start), end=from_nanoseconds(end)
        ),
    )


def test_answers_with_corrected_and_odometry_poses_by_stamp(graph):
    backend = graph.backend()
    frames = {
        id: make_keyframe(id, stamp_ns=10**9 * stamp) for id, stamp in ((3, 1), (1, 2), (2, 3))
    }
    graph.refined(*frames.values(), backend=backend)
    graph.send(make_keyframe(9, stamp_ns=10**9 * 4), odom_frame="odom")
    until(lambda: len(backend._core.store) == 4)

    corrected = ask(graph)
    assert (corrected.error_code, corrected.path.header.frame_id, corrected.generation) == (
        CODES.NONE,
        "map",
        1,
    )
    assert list(corrected.ids) == [3, 1, 2]
    for id, pose in zip(corrected.ids, corrected.path.poses):
        np.testing.assert_allclose(
            to_transform(pose.pose), SHIFT @ frames[id].T_odom_cam, atol=1e-9
        )
        assert (
            to_nanoseconds(pose.header.stamp) == frames[id].stamp_ns
            and pose.header.frame_id == "map"
        )

    odometry = ask(graph, ODOMETRY)
    assert (
        list(odometry.ids) == [3, 1, 2, 9]
        and odometry.path.header.frame_id == "odom"
        and odometry.generation == 0
    )
    np.testing.assert_allclose(
        to_transform(odometry.path.poses[1].pose), frames[1].T_odom_cam, atol=1e-9
    )
    assert to_nanoseconds(odometry.path.header.stamp) == 4 * 10**9

    for start, end, ids in (
        (2 * 10**9, 0, [1, 2]),
        (0, 2 * 10**9, [3, 1]),
        (2 * 10**9, 2 * 10**9, [1]),
        (5 * 10**9, 0, []),
    ):
        assert list(ask(graph, start=start, end=end).ids) == ids


def test_says_why_it_cannot(graph):
    graph.backend()
    assert ask(graph).error_code == CODES.NO_MAP
    assert not ask(graph, ODOMETRY).path.poses
    backwards = ask(graph, ODOMETRY, start=2 * 10**9, end=10**9)
    assert backwards.error_code == CODES.BAD_REQUEST and "before start" in backwards.error_msg
    unknown = ask(graph, source=7)
    assert unknown.error_code == CODES.BAD_REQUEST and "source must be" in unknown.error_msg
