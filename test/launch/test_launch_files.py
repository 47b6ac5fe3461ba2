"""The launch files for real, where a ROS distribution brings launch (it is on no wheel).
launch_pytest would tie the tests to one version of pytest, so a process of its own launches.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip(
    "launch_ros",
    reason="no ROS distribution here: launch and launch_ros are on no wheel; "
    "test_executables.py starts the same by hand",
)

import numpy as np
import rclpy
import ros_domain  # noqa: F401  before rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.launch_description_sources import PythonLaunchDescriptionSource
from lifecycle_msgs.srv import GetState
from random_keyframes import CAMERA, make_keyframe
from rcl_interfaces.srv import GetParameters
from tf2_msgs.msg import TFMessage
from vggt3_ros.srv import GetTrajectory, SaveMap, SetMode
from waiting import until

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.tum import write_tum
from vggt3_ros.ros import qos
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.surface.fusion import empty_map

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
        command = [
            sys.executable,
            str(Path(__file__).with_name("launch_file.py")),
            str(LAUNCH / name),
        ]
        log = open(tmp_path / f"{len(processes)}.log", "w")  # noqa: SIM115 (the process's)
        processes.append(
            subprocess.Popen(
                command + [f"{n}:={v}" for n, v in arguments.items()],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        # as a terminal does: launch itself and all that it started
        os.killpg(process.pid, signal.SIGINT)
    assert [process.wait(30) for process in processes] == [0] * len(processes)
    for log in tmp_path.glob("*.log"):
        text = log.read_text()
        assert "process has finished cleanly" in text and not re.search(
            "process has died|failed to terminate|Traceback", text
        ), text


def call(node, kind, name, request):
    client = node.create_client(kind, name)
    assert client.wait_for_service(30), name
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=20)
    assert future.result() is not None, f"{name} does not answer"
    return future.result()


def wait_until_active(node, name):
    for _ in range(100):
        if (
            call(node, GetState, f"{name}/get_state", GetState.Request()).current_state.label
            == "active"
        ):
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} does not become active")


def test_a_namespaced_back_end_becomes_active_answers_and_shuts_down(client, launch, tmp_path):
    launch(
        "backend.launch.py",
        namespace="robot",
        store=tmp_path / "store",
        keyframes_topic="frontend/keyframes",
    )
    wait_until_active(client, "/robot/vggt3_ros")
    assert (
        call(client, SaveMap, "/robot/save_map", SaveMap.Request(name="x")).error_code
        == SaveMap.Response.NOTHING
    )
    topics = dict(client.get_topic_names_and_types())
    assert (
        topics["/robot/frontend/keyframes"] == ["vggt3_ros/msg/Keyframe"]
        and "/robot/tf" in topics
        and "/tf" not in topics
    )


def test_two_robots_have_a_back_end_each_with_topics_and_tf_of_their_own(client, launch, tmp_path):
    robots = ("robot1", "robot2")
    for robot in robots:
        launch("backend.launch.py", namespace=robot, store=tmp_path / robot)
    for robot in robots:
        wait_until_active(client, f"/{robot}/vggt3_ros")
    topics = dict(client.get_topic_names_and_types())
    assert all(
        f"/{robot}/{name}" in topics
        for robot in robots
        for name in ("tf", "map", "occupancy_grid", "status")
    )
    assert not {"/tf", "/map", "/status"} & set(topics)


def test_a_saved_map_is_served_for_localization(client, launch, tmp_path):
    frames = [make_keyframe(id) for id in range(3)]
    with KeyframeStore(tmp_path / "office") as store:
        for frame in frames:
            store.put(frame)
        poses = store.poses()
        Snapshot(
            1,
            poses.ids,
            poses.stamps_ns,
            poses.T_odom_cam,
            poses.T_odom_cam,
            np.zeros((3, 6, 6)),
            (),
            empty_map(),
        ).save(store.snapshots / "000001")
    launch("localization.launch.py", map=tmp_path / "office", namespace="robot")
    wait_until_active(client, "/robot/vggt3_ros")
    trajectory = call(client, GetTrajectory, "/robot/get_trajectory", GetTrajectory.Request())
    assert list(trajectory.ids) == [0, 1, 2]
    answer = call(
        client, SetMode, "/robot/set_mode", SetMode.Request(mode=SetMode.Request.MAPPING)
    )
    assert (answer.error_code, answer.mode) == (
        SetMode.Response.OTHER_ODOMETRY,
        SetMode.Request.LOCALIZATION,
    )


@pytest.mark.parametrize("name", ["backend.launch.py", "localization.launch.py", "demo.launch.py"])
def test_every_argument_is_described(name):
    described = PythonLaunchDescriptionSource(
        str(LAUNCH / name)
    ).try_get_launch_description_without_context()
    arguments = described.get_launch_arguments()
    assert arguments and all(len(argument.description.split()) >= 2 for argument in arguments), [
        a.name for a in arguments
    ]


@pytest.fixture
def folder(tmp_path):
    """Four keyframes in the TUM layout."""
    frames = [make_keyframe(id, stamp_ns=id * 10**8) for id in range(4)]
    keyframes = KeyframeList(
        CAMERA,
        [f.stamp_ns for f in frames],
        [f.T_odom_cam for f in frames],
        lambda i: frames[i].image,
        lambda i: frames[i].depth,
    )
    write_tum(tmp_path / "sequence", Sequence("random", CAMERA, keyframes.stamps_ns, keyframes))
    return tmp_path / "sequence"


def until_stored(folder, count):
    """Stamps of the keyframes in a store, once there are so many."""
    with KeyframeStore(folder, read_only=True) as store:
        until(lambda: len(store) == count)
        return store.poses().stamps_ns


def test_the_demo_plays_a_folder_into_the_back_end(client, launch, folder, tmp_path):
    launch("demo.launch.py", folder=folder, store=tmp_path / "store", rviz="false", rate=20.0)
    wait_until_active(client, "/vggt3_ros")
    until_stored(tmp_path / "store", 4)


def test_a_ctrl_c_while_the_demo_plays_ends_all_in_order(client, launch, folder, tmp_path):
    launch("demo.launch.py", folder=folder, store=tmp_path / "store", rviz="false", rate=0.1)
    wait_until_active(client, "/vggt3_ros")
    until_stored(tmp_path / "store", 1)


def test_the_demo_in_a_namespace_on_simulated_time(client, launch, folder, tmp_path):
    heard = []
    client.create_subscription(TFMessage, "/robot1/tf", heard.append, qos.TF)
    launch(
        "demo.launch.py",
        folder=folder,
        store=tmp_path / "store",
        rviz="false",
        rate=0.5,
        namespace="robot1",
        keyframes_topic="/frontend/keyframes",
        use_sim_time="true",
    )
    until(
        lambda: (
            rclpy.spin_once(client, timeout_sec=0.1)
            or "camera"
            in {transform.child_frame_id for message in heard for transform in message.transforms}
        ),
        60,
    )
    wait_until_active(client, "/robot1/vggt3_ros")
    # as recorded: a stamp of 0 is none
    assert list(until_stored(tmp_path / "store", 4)) == [
        1,
        10**8 + 1,
        2 * 10**8 + 1,
        3 * 10**8 + 1,
    ]
    topics = dict(client.get_topic_names_and_types())
    assert not {"/keyframes", "/robot1/keyframes", "/tf", "/status"} & set(topics)


def fake_rviz(folder, monkeypatch):
    """A package rviz2 that writes what it is started with, one word a line, to the file
    returned.
    """
    arguments = folder / "rviz_arguments"
    for path, text in (
        ("share/ament_index/resource_index/packages/rviz2", ""),
        ("share/rviz2/package.xml", ""),
        ("lib/rviz2/rviz2", f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {arguments}\n"),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "lib/rviz2/rviz2").chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{folder}:{os.environ['AMENT_PREFIX_PATH']}")
    return arguments


def test_rviz_shows_the_map_frame_and_the_topics_that_were_named(
    client, launch, tmp_path, monkeypatch
):
    arguments = fake_rviz(tmp_path / "prefix", monkeypatch)
    launch(
        "backend.launch.py",
        store=tmp_path / "store",
        rviz="true",
        map_frame="world",
        map_topic="points",
    )
    wait_until_active(client, "/vggt3_ros")
    words = until(lambda: arguments.exists() and arguments.read_text().split())
    assert words[words.index("-f") + 1] == "world" and Path(words[words.index("-d") + 1]).is_file()
    assert {"map:=points", "occupancy_grid:=occupancy_grid", "/tf:=tf"} <= set(words)


def served(log):
    """Text of the page that a launch serves, once its log says where."""
    found = until(lambda: re.search(r"the map is at (http://\S+?);", log.read_text()))
    with urllib.request.urlopen(found[1], timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("name", ["backend.launch.py", "demo.launch.py"])
def test_the_page_is_served_beside_the_node_from_its_store(client, launch, folder, tmp_path, name):
    pytest.importorskip("viser", reason="viser is not installed: scripts/setup brings it")
    played = {"folder": folder, "rviz": "false"} if name == "demo.launch.py" else {}
    launch(name, store=tmp_path / "store", web="true", web_port=free_port(), **played)
    wait_until_active(client, "/vggt3_ros")
    assert "viser" in served(tmp_path / "0.log")


def test_without_a_named_store_the_page_and_the_node_have_the_same(
    client, launch, tmp_path, monkeypatch
):
    pytest.importorskip("viser", reason="viser is not installed: scripts/setup brings it")
    monkeypatch.setenv("HOME", str(tmp_path))
    launch("backend.launch.py", web="true", web_port=free_port())
    wait_until_active(client, "/vggt3_ros")
    (store,) = (tmp_path / ".ros" / "vggt3_ros").glob("*/keyframes.db")
    request = GetParameters.Request(names=["store"])
    values = call(client, GetParameters, "/vggt3_ros/get_parameters", request).values
    assert values[0].string_value == str(store.parent)
    served(tmp_path / "0.log")


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def test_without_rviz_everything_else_starts(client, launch, tmp_path):
    try:
        get_package_prefix("rviz2")
        pytest.skip("rviz2 is installed")
    except PackageNotFoundError:
        launch("backend.launch.py", store=tmp_path / "store", rviz="true")
    wait_until_active(client, "/vggt3_ros")
    assert "rviz2 is not installed" in (tmp_path / "0.log").read_text()


def test_the_parameter_file_decides_where_no_argument_is_given(client, launch, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "/**:\n  ros__parameters:\n    input.source: pose\n    map_frame: cellar\n    device: cpu\n"
    )
    launch(
        "backend.launch.py",
        params_file=tmp_path / "own.yaml",
        store=tmp_path / "store",
        adapter="own.py:Net",
        map_frame="attic",
    )
    names = ["input.source", "map_frame", "device", "network.adapter", "store"]
    values = call(
        client, GetParameters, "/vggt3_ros/get_parameters", GetParameters.Request(names=names)
    ).values
    assert [value.string_value for value in values] == [
        "pose",
        "attic",
        "cpu",
        "own.py:Net",
        str(tmp_path / "store"),
    ]


@pytest.mark.parametrize("text", [None, "a: [1", "\x00"])
def test_a_parameter_file_that_cannot_be_read_stops_the_start(tmp_path, text):
    path = tmp_path / "own.yaml"
    if text is not None:
        path.write_text(text)
    ran = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("launch_file.py")),
            str(LAUNCH / "backend.launch.py"),
            f"params_file:={path}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = ran.stdout + ran.stderr
    assert (
        ran.returncode == 1
        and "cannot read params_file" in said
        and str(path) in said
        and "process started" not in said
    )


def test_topics_of_a_camera_are_those_that_were_named(client, launch, tmp_path):
    launch(
        "backend.launch.py",
        store=tmp_path / "store",
        input_source="odometry",
        depth_transport="raw",
        image_topic="/cam/color",
        camera_info_topic="/cam/color_info",
        depth_topic="/cam/depth",
        depth_camera_info_topic="/cam/depth_info",
        odometry_topic="/odom",
    )
    wait_until_active(client, "/vggt3_ros")
    topics = dict(client.get_topic_names_and_types())
    assert {"/cam/color", "/cam/color_info", "/cam/depth", "/cam/depth_info", "/odom"} <= set(
        topics
    )
    assert not {"/image", "/camera_info", "/depth", "/depth/camera_info", "/odometry"} & set(
        topics
    )


def test_nav2_finds_its_map_and_no_cloud_under_that_name(client, launch, tmp_path):
    launch(
        "backend.launch.py",
        store=tmp_path / "store",
        map_topic="map_points",
        occupancy_grid_topic="map",
    )
    wait_until_active(client, "/vggt3_ros")
    topics = dict(client.get_topic_names_and_types())
    assert topics["/map"] == ["nav_msgs/msg/OccupancyGrid"] and topics["/map_points"] == [
        "sensor_msgs/msg/PointCloud2"
    ]
    assert "/occupancy_grid" not in topics
