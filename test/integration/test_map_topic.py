"""Topic map: points with colour and confidence, made only for subscribers, never more than
map.max_points; latched.
"""

from dataclasses import replace

import numpy as np
from fake_backend import SHIFT
from nav_msgs.msg import Path
from random_keyframes import make_keyframe
from rclpy.parameter import Parameter
from ros_graph import until
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vggt3_ros.msg import KeyframePoses
from vggt3_ros.srv import Reset

from vggt3_ros.geometry.local_frame import shifted
from vggt3_ros.ros import qos
from vggt3_ros.ros.output import outputs
from vggt3_ros.ros.output.clouds import from_cloud, to_cloud
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot


def test_a_late_subscriber_gets_position_colour_and_confidence_of_every_point(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    clouds = graph.listen(PointCloud2, "map")
    until(lambda: clouds)
    points, cloud = from_cloud(clouds[0]), backend._core.snapshot.cloud
    assert clouds[0].header.frame_id == "map"
    np.testing.assert_array_equal(
        np.stack([points["x"], points["y"], points["z"]], axis=1), cloud.points
    )
    assert set(points["rgb"].tolist()) == {10 << 16 | 20 << 8 | 30}
    np.testing.assert_array_equal(points["confidence"], cloud.confidence)
    graph.call(Reset, "reset", Reset.Request())
    until(lambda: clouds[-1].width == 0)


def test_the_map_is_made_once_somebody_subscribes(graph, monkeypatch):
    made = []
    monkeypatch.setattr(
        outputs, "to_cloud", lambda *arguments: made.append(1) or to_cloud(*arguments)
    )
    backend = graph.backend()
    poses = graph.listen(KeyframePoses, "keyframe_poses")
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: poses)
    assert not made
    clouds = graph.listen(PointCloud2, "map")
    until(lambda: clouds)
    graph.listen(PointCloud2, "map")
    assert len(made) == 1


def test_idle_time_that_changes_only_the_memory_sends_no_map_again(graph):
    backend = graph.backend(idle_distillation=20.0)
    clouds, poses = graph.listen(PointCloud2, "map"), graph.listen(KeyframePoses, "keyframe_poses")
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    until(lambda: poses and poses[-1].generation == 2 and clouds)
    graph.refined(make_keyframe(2), backend=backend)
    until(lambda: poses[-1].generation >= 3)
    assert len(clouds) == 1  # the points of the fake back end never change


def test_a_map_in_coordinates_of_a_country_has_a_frame_near_it(graph):
    """UTM: float32 knows half a metre there."""
    frames, rng, origin = (
        [make_keyframe(id) for id in range(3)],
        np.random.default_rng(0),
        np.array([500_000.0, 4_600_000.0, 0.0]),
    )
    cloud = PointMap.around(
        origin,
        rng.normal(size=(500, 3)).astype(np.float32),
        rng.integers(0, 256, (500, 3), np.uint8),
        rng.random(500, np.float32),
    )
    with KeyframeStore(graph.folder / "store") as store:
        for frame in frames:
            store.put(replace(frame, T_odom_cam=shifted(frame.T_odom_cam, origin)))
        poses = store.poses()
        store.snapshots.mkdir()
        Snapshot(
            1,
            poses.ids,
            poses.stamps_ns,
            poses.T_odom_cam,
            poses.T_odom_cam,
            np.zeros((3, 6, 6)),
            (),
            cloud,
        ).save(store.snapshots / "000001")
    graph.backend()
    clouds, frames_heard = (
        graph.listen(PointCloud2, "map"),
        graph.listen(TFMessage, "/tf_static", qos.TF_STATIC),
    )
    until(lambda: clouds and frames_heard)
    points, placed = from_cloud(clouds[0]), frames_heard[0].transforms[0]
    at = placed.transform.translation
    assert (placed.header.frame_id, placed.child_frame_id, clouds[0].header.frame_id) == (
        "map",
        "map_local",
        "map_local",
    )
    there = np.stack([points["x"], points["y"], points["z"]], axis=1) + (at.x, at.y, at.z)
    np.testing.assert_allclose(there, cloud.points, atol=1e-6)
    paths = graph.listen(Path, "path")
    until(lambda: paths)
    first = paths[0].poses[0].pose.position
    np.testing.assert_allclose([first.x, first.y, first.z], poses.T_odom_cam[0, :3, 3], atol=1e-6)
    assert paths[0].header.frame_id == "map"


def test_a_larger_map_is_thinned_to_max_points_which_may_change_while_running(graph):
    """A map that another machine saved."""
    frames, rng = [make_keyframe(id) for id in range(3)], np.random.default_rng(0)
    cloud = PointMap(
        rng.normal(size=(5000, 3)).astype(np.float32),
        rng.integers(0, 256, (5000, 3), np.uint8),
        rng.random(5000, np.float32),
    )
    with KeyframeStore(graph.folder / "store") as store:
        for frame in frames:
            store.put(frame)
        poses = store.poses()
        store.snapshots.mkdir()
        Snapshot(
            1,
            poses.ids,
            poses.stamps_ns,
            SHIFT @ poses.T_odom_cam,
            poses.T_odom_cam,
            np.zeros((3, 6, 6)),
            (),
            cloud,
        ).save(store.snapshots / "000001")
    backend = graph.backend(map__max_points=2000)
    clouds = graph.listen(PointCloud2, "map")
    until(lambda: clouds)
    row = {point.tobytes(): k for k, point in enumerate(cloud.points)}
    points = from_cloud(clouds[0])
    index = [
        row[point.tobytes()] for point in np.stack([points["x"], points["y"], points["z"]], axis=1)
    ]
    assert len(set(index)) == 2000
    np.testing.assert_array_equal(points["confidence"], cloud.confidence[index])
    assert backend.set_parameters([Parameter("map.max_points", value=10_000)])[0].successful
    until(lambda: clouds[-1].width == 5000)
