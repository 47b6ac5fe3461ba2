"""The launch files for real, where a ROS distribution brings launch (it is on no wheel). launch_pytest would tie the tests to
one version of pytest, so a process of its own launches."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="no ROS distribution here: launch and launch_ros are on no wheel; "
                    "test_executables.py starts the same by hand")

import ros_domain  # noqa: E402, F401  before rclpy

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from random_keyframes import CAMERA, make_keyframe  # noqa: E402

from vggt3_ros.datasets.sequence import KeyframeList, Sequence  # noqa: E402
from vggt3_ros.datasets.tum import write_tum  # noqa: E402
from vggt3_ros.srv import GetTrajectory, SaveMap, SetMode  # noqa: E402
from vggt3_ros.store.keyframes import KeyframeStore  # noqa: E402
from vggt3_ros.store.snapshot import Snapshot  # noqa: E402
from vggt3_ros.surface.fusion import empty_map  # noqa: E402

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture
def client():
    with rclpy.init():
        node = rclpy.create_node("launch_test_client")
        yield node
        node.destroy_node()


@pytest.fixture
def launch(tmp_path):
    processes = []

    def start(name, **arguments):
        command = [sys.executable, str(Path(__file__).with_name("launch_file.py")), str(LAUNCH / name)]
        log = open(tmp_path / f"{len(processes)}.log", "w")
        processes.append(subprocess.Popen(command + [f"{n}:={v}" for n, v in arguments.items()], stdout=log, stderr=subprocess.STDOUT,
                                          start_new_session=True))
        return processes[-1]

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert [process.wait(30) for process in processes] == [0] * len(processes)
    for log in tmp_path.glob("*.log"):
        assert "process has finished cleanly" in log.read_text() and "process has died" not in log.read_text()


def call(node, kind, name, request):
    client = node.create_client(kind, name)
    assert client.wait_for_service(30), name
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=20)
    assert future.result() is not None, f"{name} does not answer"
    return future.result()


def wait_until_active(node, name):
    for _ in range(100):
        if call(node, GetState, f"{name}/get_state", GetState.Request()).current_state.label == "active":
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} does not become active")


def test_a_namespaced_back_end_becomes_active_answers_and_shuts_down(client, launch, tmp_path):
    launch("backend.launch.py", namespace="robot", store=tmp_path / "store", keyframes_topic="frontend/keyframes")
    wait_until_active(client, "/robot/vggt3_ros")
    assert call(client, SaveMap, "/robot/save_map", SaveMap.Request(name="x")).error_code == SaveMap.Response.NOTHING
    topics = dict(client.get_topic_names_and_types())
    assert topics["/robot/frontend/keyframes"] == ["vggt3_ros/msg/Keyframe"] and "/robot/tf" in topics and "/tf" not in topics


def test_two_robots_have_a_back_end_each_with_topics_and_tf_of_their_own(client, launch, tmp_path):
    robots = ("robot1", "robot2")
    for robot in robots:
        launch("backend.launch.py", namespace=robot, store=tmp_path / robot)
    for robot in robots:
        wait_until_active(client, f"/{robot}/vggt3_ros")
    topics = dict(client.get_topic_names_and_types())
    assert all(f"/{robot}/{name}" in topics for robot in robots for name in ("tf", "map", "occupancy_grid", "status"))
    assert not {"/tf", "/map", "/status"} & set(topics)


def test_a_saved_map_is_served_for_localization(client, launch, tmp_path):
    frames = [make_keyframe(id) for id in range(3)]
    with KeyframeStore(tmp_path / "office") as store:
        for frame in frames:
            store.put(frame)
        poses = store.poses()
        Snapshot(1, poses.ids, poses.stamps_ns, poses.T_odom_cam, poses.T_odom_cam, np.zeros((3, 6, 6)), (), empty_map()).save(
            store.snapshots / "000001")
    launch("localization.launch.py", map=tmp_path / "office", namespace="robot")
    wait_until_active(client, "/robot/vggt3_ros")
    trajectory = call(client, GetTrajectory, "/robot/get_trajectory", GetTrajectory.Request())
    assert list(trajectory.ids) == [0, 1, 2]
    answer = call(client, SetMode, "/robot/set_mode", SetMode.Request(mode=SetMode.Request.MAPPING))
    assert (answer.error_code, answer.mode) == (SetMode.Response.OTHER_ODOMETRY, SetMode.Request.LOCALIZATION)


@pytest.mark.parametrize("name", ["backend.launch.py", "localization.launch.py", "demo.launch.py"])
def test_every_argument_is_described(name):
    described = PythonLaunchDescriptionSource(str(LAUNCH / name)).try_get_launch_description_without_context()
    arguments = described.get_launch_arguments()
    assert arguments and all(len(argument.description.split()) >= 2 for argument in arguments), [a.name for a in arguments]


def test_the_demo_plays_a_folder_into_the_back_end(client, launch, tmp_path):
    frames = [make_keyframe(id, stamp_ns=id * 10**8) for id in range(4)]
    keyframes = KeyframeList(CAMERA, [f.stamp_ns for f in frames], [f.T_odom_cam for f in frames], lambda i: frames[i].image,
                             lambda i: frames[i].depth)
    write_tum(tmp_path / "sequence", Sequence("random", CAMERA, keyframes.stamps_ns, keyframes))
    launch("demo.launch.py", folder=tmp_path / "sequence", store=tmp_path / "store", rviz="false", rate=20.0)
    wait_until_active(client, "/vggt3_ros")
    with KeyframeStore(tmp_path / "store") as store:
        for _ in range(100):
            if len(store) == 4:
                return
            time.sleep(0.1)
    raise AssertionError("the keyframes did not arrive")
