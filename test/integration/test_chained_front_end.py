"""Above a front end that owns map->odom: TF is map->slam_map, whatever loops the front end closes
by itself.
"""

import numpy as np
import pytest
from camera_rig import CAMERA, CameraRig, path, picture
from fake_backend import SHIFT
from geometry_msgs.msg import PoseStamped
from random_keyframes import make_keyframe
from ros_graph import until
from tf2_msgs.msg import TFMessage

from vggt3_ros.geometry import se3
from vggt3_ros.ros import qos

EVERY = {"selection__translation": 0.001, "selection__shortest": 0.0}
# what the front end's own loop closure moves its newest poses by
LOOP = se3.exp([0.8, -0.5, 0.1, 0, 0, 0.4])


def start(graph, source="pose", **parameters):
    rig = CameraRig(graph, source=source, odom_frame="slam_map")
    backend = graph.backend(wait=False, input__source=source, **{**EVERY, **parameters})
    rig.meet(backend)
    until(lambda: backend._core.worker.ready)
    return rig, backend


def track(rig, begin, end, moved=np.eye(4)):
    """Poses and images of the path, ten a second, as a tracker gives them whose map has moved."""
    for number in range(begin, end):
        rig.pose(number * 100, moved @ path(number / 10))
        rig.image(number, number * 100)


def newest(heard):
    entry = heard[-1].transforms[-1]
    t, q = entry.transform.translation, entry.transform.rotation
    return (
        entry.header.frame_id,
        entry.child_frame_id,
        se3.from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w)),
    )


@pytest.mark.parametrize("source", ["pose", "pose_with_covariance"])
def test_the_correction_goes_above_the_front_ends_map(graph, source):
    rig, backend = start(graph, source)
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    track(rig, 0, 4)
    until(lambda: len(backend._core.store) == 4 and heard)
    assert newest(heard)[:2] == ("map", "slam_map")
    np.testing.assert_allclose(newest(heard)[2], np.eye(4))
    for number, id in enumerate(backend._core.store.ids()):
        keyframe = backend._core.store.get(id)
        np.testing.assert_array_equal(keyframe.image, picture(number))
        # the pose is the camera's own
        np.testing.assert_allclose(keyframe.T_odom_cam, path(number / 10), atol=1e-9)
        assert keyframe.camera == CAMERA
    graph.wait(backend._core.refinery.request())
    until(lambda: np.allclose(newest(heard)[2], SHIFT))


def test_a_loop_closed_by_the_front_end_moves_neither_the_map_nor_the_robot(graph):
    rig, backend = start(graph)
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    track(rig, 0, 20)
    until(lambda: len(backend._core.store) == 20)
    graph.wait(backend._core.refinery.request())
    until(lambda: heard and np.allclose(newest(heard)[2], SHIFT))
    track(rig, 20, 30, LOOP)
    until(lambda: len(backend._core.store) == 30)

    poses = backend._core.store.poses()
    wanted = np.array([path(number / 10) for number in range(30)])
    difference = se3.inverse(wanted) @ poses.T_odom_cam
    assert (
        np.linalg.norm(difference[:, :3, 3], axis=1).max() < 0.03
        and se3.rotation_angle(difference).max() < 0.03
    )
    # the bridged step is known badly
    assert np.diag(poses.covariances[20]).min() > 0.01 and poses.covariances[21] is None

    # TF has followed at once, before any refinement: the robot stands in the map where it stood.
    until(lambda: not np.allclose(newest(heard)[2], SHIFT))
    robot = newest(heard)[2] @ LOOP @ path(2.9)
    off = se3.inverse(SHIFT @ path(2.9)) @ robot
    assert np.linalg.norm(off[:3, 3]) < 0.03 and se3.rotation_angle(off) < 0.03
    snapshot = backend._core.load_snapshot(graph.wait(backend._core.refinery.request()))
    np.testing.assert_allclose(snapshot.T_map_cam, SHIFT @ poses.T_odom_cam, atol=1e-9)
    heard.clear()
    until(lambda: heard)
    np.testing.assert_allclose(newest(heard)[2] @ LOOP @ path(2.9), robot, atol=1e-6)


def test_a_restarted_back_end_remembers_the_jump(graph):
    rig, backend = start(graph)
    track(rig, 0, 10)
    track(rig, 10, 15, LOOP)
    until(lambda: len(backend._core.store) == 15)
    moved = backend._core.intake.T_kept_frontend
    assert not np.allclose(moved, np.eye(4))
    graph.stop(backend)
    rig, backend = start(graph)
    np.testing.assert_allclose(backend._core.intake.T_kept_frontend, moved)
    track(rig, 15, 18, LOOP)
    until(lambda: len(backend._core.store) == 18)
    difference = se3.inverse(path(1.7)) @ backend._core.store.poses().T_odom_cam[-1]
    assert np.linalg.norm(difference[:3, 3]) < 0.05 and se3.rotation_angle(difference) < 0.05


def test_two_maps_of_one_name_are_refused(graph):
    rig, backend = start(graph, map_frame="slam_map")
    track(rig, 0, 1)
    until(lambda: backend._core.intake.refused)
    assert (
        "header.frame_id is 'slam_map', the name of this node's map frame"
        in backend._core.intake.last_refusal
    )


def test_keyframes_that_the_front_end_moves_and_sends_again(graph):
    """The `keyframes` way of chaining: after its loop closure the front end re-sends what it
    moved, and TF follows the refinement.
    """
    backend = graph.backend()
    heard = graph.listen(TFMessage, "/tf", qos.TF)
    frames = [make_keyframe(id) for id in range(4)]
    graph.send(*frames, odom_frame="slam_map")
    until(lambda: len(backend._core.store) == 4)
    graph.wait(backend._core.refinery.request())
    moved = [make_keyframe(id) for id in range(4)]
    for keyframe in moved[2:]:
        object.__setattr__(keyframe, "T_odom_cam", LOOP @ keyframe.T_odom_cam)
    graph.send(*moved[2:], odom_frame="slam_map")
    until(lambda: backend._core.intake.updated == 2)
    snapshot = backend._core.load_snapshot(graph.wait(backend._core.refinery.request()))
    np.testing.assert_allclose(snapshot.T_odom_cam[3], moved[3].T_odom_cam, atol=1e-9)
    until(lambda: heard and newest(heard)[:2] == ("map", "slam_map"))
    np.testing.assert_allclose(newest(heard)[2], SHIFT, atol=1e-9)


def test_a_pose_of_the_base_needs_its_frame_named(graph):
    """PoseStamped does not say whose pose it is: base_frame does."""
    rig, backend = start(graph, input__base_frame="camera_optical")
    track(rig, 0, 1)
    until(lambda: len(backend._core.store) == 1)
    assert isinstance(rig._poses.msg_type(), PoseStamped)
    np.testing.assert_allclose(backend._core.store.get(0).T_odom_cam, path(0), atol=1e-9)
