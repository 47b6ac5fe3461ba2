"""Service set_mode and parameter mode: in localization mode keyframes are looked for in the map,
and nothing is stored.
"""

import time

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from places import at
from random_keyframes import make_keyframe
from rclpy.parameter import Parameter
from ros_graph import until
from tf2_msgs.msg import TFMessage
from vggt3_ros.action import Refine
from vggt3_ros.msg import Status
from vggt3_ros.srv import Reset, SaveMap, SetMode

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_nanoseconds, to_transform
from vggt3_ros.ros import qos
from vggt3_ros.ros.clients.goal_client import GoalClient

MAPPING, LOCALIZATION, CODES = (
    SetMode.Request.MAPPING,
    SetMode.Request.LOCALIZATION,
    SetMode.Response,
)


def set_mode(graph, mode):
    return graph.call(SetMode, "set_mode", SetMode.Request(mode=mode))


def x_of_map_odom(heard):
    return heard[-1].transforms[0].transform.translation.x


@pytest.fixture
def saved(graph):
    """Folder of a saved map."""
    backend = graph.backend(store=str(graph.folder / "earlier"))
    graph.refined(*(at(n, stamp_ns=10**9 + n) for n in range(3)), backend=backend)
    assert (
        graph.call(SaveMap, "save_map", SaveMap.Request(name="office")).error_code
        == SaveMap.Response.NONE
    )
    graph.stop(backend)
    return graph.folder / "maps" / "office"


def test_in_localization_mode_pose_and_map_to_odom_follow_the_images_and_nothing_is_stored(graph):
    backend = graph.backend()
    graph.refined(at(0), at(1), backend=backend)
    poses, heard = (
        graph.listen(PoseWithCovarianceStamped, "pose", qos.EVENTS),
        graph.listen(TFMessage, "/tf", qos.TF),
    )
    answer = set_mode(graph, LOCALIZATION)
    assert (answer.error_code, answer.mode) == (CODES.NONE, LOCALIZATION)
    graph.heard_by_all(backend, "pose")
    for decimetres in (7, 8):
        # 1 m is the correction of the fake back end, the rest has drifted since
        graph.send(at(decimetres, odometry_x=-1.2))
        until(lambda: poses and to_nanoseconds(poses[-1].header.stamp) == at(decimetres).stamp_ns)
        np.testing.assert_allclose(
            to_transform(poses[-1].pose.pose),
            se3.exp([0.1 * decimetres, 0, 0, 0, 0, 0]),
            atol=1e-9,
        )
        assert poses[-1].header.frame_id == "map" and poses[-1].pose.covariance[
            0
        ] == pytest.approx(1e-4)
    until(lambda: heard and x_of_map_odom(heard) == pytest.approx(1.2))
    assert backend._core.store.ids() == [0, 1]


def test_a_far_jump_of_the_localization_must_be_seen_three_times(graph):
    backend = graph.backend()
    graph.refined(at(0), at(1), backend=backend)
    status, heard = graph.status(), graph.listen(TFMessage, "/tf", qos.TF)
    set_mode(graph, LOCALIZATION)
    asked = 0
    for odometry_x, withheld, x in (
        (-1.3, False, 1.3),
        (4.0, True, 1.3),
        (-1.2, False, 1.2),
        (4.0, True, 1.2),
        (4.1, True, 1.2),
        (4.2, False, -4.2),
    ):
        asked += 1
        graph.send(at(9, odometry_x=odometry_x))
        until(lambda: status and status[-1].localizations == asked)
        assert (
            bool(status[-1].withheld) == withheld
            and ("gate.relocalization" in status[-1].withheld) == withheld
        )
        until(lambda: heard and x_of_map_odom(heard) == pytest.approx(x))
    assert backend._core.store.ids() == [0, 1] and status[-1].localized == asked


def test_back_in_mapping_mode_keyframes_are_stored_and_map_to_odom_is_the_refinements(graph):
    backend = graph.backend()
    graph.refined(at(0), at(1), backend=backend)
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    set_mode(graph, LOCALIZATION)
    graph.send(at(5, odometry_x=-1.3))
    until(lambda: heard and x_of_map_odom(heard) == pytest.approx(1.3))
    assert (set_mode(graph, MAPPING).error_code, backend._core.localizing) == (CODES.NONE, False)
    until(lambda: x_of_map_odom(heard) == pytest.approx(1.0))
    graph.send(at(6))
    until(lambda: backend._core.store.ids() == [0, 1, 6])


def test_localization_mode_needs_a_map_and_refuses_to_refine(graph):
    backend = graph.backend()
    answer = set_mode(graph, LOCALIZATION)
    assert (answer.error_code, answer.mode) == (
        CODES.NO_MAP,
        MAPPING,
    ) and "no refined map" in answer.error_msg
    answer = set_mode(graph, 5)
    assert answer.error_code == CODES.BAD_MODE and "got 5" in answer.error_msg
    graph.refined(at(0), at(1), backend=backend)
    set_mode(graph, LOCALIZATION)
    client = GoalClient(graph.client, Refine, "refine")
    assert client.wait_for_server(10)
    done = graph.wait(graph.wait(client.send_goal_async(Refine.Goal())).get_result_async())
    assert done.status == GoalStatus.STATUS_ABORTED and "localization" in done.result.error_msg


def test_a_node_started_on_a_saved_map_localizes_in_it_and_leaves_it_as_it_is(graph, saved):
    backend = graph.backend(store=str(saved), mode="localization")
    status, heard = graph.status(), graph.listen(TFMessage, "/tf", qos.TF)
    until(lambda: status and status[-1].mode == Status.LOCALIZATION)
    assert backend._core.map_odom.T_map_odom is None  # where the robot is nobody knows yet
    # the ids of another run may be the same
    graph.send(at(9, id=0, odometry_x=3.0), odom_frame="another_odom")
    until(lambda: heard and x_of_map_odom(heard) == pytest.approx(-3.0))
    assert heard[-1].transforms[0].child_frame_id == "another_odom"
    for answer in (set_mode(graph, MAPPING), graph.call(Reset, "reset", Reset.Request())):
        assert answer.error_code and answer.error_msg
    assert backend._core.store.ids() == [0, 1, 2] and backend._core.localizing


@pytest.mark.parametrize("store", ["", "missing", "unrefined"])
def test_localization_mode_does_not_start_without_a_map(graph, store):
    if store == "unrefined":
        first = graph.backend(store=str(graph.folder / store))
        graph.send(make_keyframe(1))
        until(lambda: len(first._core.store) == 1)
        graph.stop(first)
    backend = graph.backend(
        activate=False, store=str(graph.folder / store) if store else "", mode="localization"
    )
    assert backend.trigger_configure() != backend.trigger_configure().SUCCESS
    assert store != "missing" or not (graph.folder / store).exists()


def new_session(graph, mode=MAPPING):
    return graph.call(SetMode, "set_mode", SetMode.Request(mode=mode, new_session=True))


def test_a_front_end_that_began_anew_goes_on_with_the_map_as_a_session_of_its_own(graph):
    """A simulation that was reset: ids and stamps begin again, odometry elsewhere."""
    backend = graph.backend()
    status, heard = graph.status(), graph.listen(TFMessage, "/tf", qos.TF)
    assert (
        new_session(graph).error_code == CODES.NO_MAP
        and new_session(graph, LOCALIZATION).error_code == CODES.BAD_MODE
    )
    graph.refined(*(at(n, stamp_ns=10**18 + n) for n in range(4)), backend=backend)
    until(lambda: heard)
    again = at(5, id=0, stamp_ns=5 * 10**9, odometry_x=4.0)
    graph.send(again, odom_frame="odom")
    until(lambda: status and status[-1].refused == 1)
    assert (
        "set_mode with new_session" in status[-1].last_refusal
        or "stored with stamp_ns" in status[-1].last_refusal
    )

    answer = new_session(graph)
    assert (answer.error_code, answer.error_msg, answer.mode) == (CODES.NONE, "", MAPPING)
    time.sleep(0.2)
    heard.clear()
    time.sleep(0.3)
    assert not heard  # where the new odometry lies in the map nobody knows yet
    graph.send(again, at(6, id=1, stamp_ns=6 * 10**9, odometry_x=4.0), odom_frame="odom_of_now")
    until(lambda: len(backend._core.store) == 6)
    assert backend._core.store.poses().sessions.tolist() == [0] * 4 + [1] * 2
    snapshot = backend._core.load_snapshot(backend._core.refinery.request().result(30))
    assert len(snapshot) == 6 and snapshot.places_odometry
    until(lambda: heard and heard[-1].transforms[0].child_frame_id == "odom_of_now")


def test_a_running_refinement_ends_for_a_new_session_and_the_map_is_kept(graph):
    backend = graph.backend()
    graph.refined(at(0), at(1), backend=backend)
    backend.set_parameters([Parameter("memory.steps", value=10_000)])
    wish = backend._core.refinery.request()
    until(lambda: backend._core.refinery.running)
    assert new_session(graph).error_code == CODES.NONE
    until(wish.done)
    assert wish.exception().code == "cancelled" and len(backend._core.snapshot) == 2
