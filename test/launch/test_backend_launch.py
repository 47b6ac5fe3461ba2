"""backend.launch.py for real, where a ROS distribution brings launch."""

import os

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="no ROS distribution: launch and launch_ros are on no wheel")
pytest.importorskip("launch_ros", reason="no ROS distribution: launch and launch_ros are on no wheel")

os.environ.setdefault("ROS_DOMAIN_ID", str(5 + os.getpid() % 90))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import rclpy  # noqa: E402
from ament_index_python.packages import get_package_share_directory  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_pytest.actions import ReadyToTest  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402

from vggt3_ros.srv import SaveMap  # noqa: E402


@launch_pytest.fixture
def description(tmp_path_factory):
    source = os.path.join(get_package_share_directory("vggt3_ros"), "launch", "backend.launch.py")
    include = IncludeLaunchDescription(PythonLaunchDescriptionSource(source), launch_arguments={
        "namespace": "robot", "store": str(tmp_path_factory.mktemp("launch") / "store")}.items())
    return LaunchDescription([include, ReadyToTest()])


def call(node, kind, name, request):
    client = node.create_client(kind, name)
    assert client.wait_for_service(20)
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=20)
    return future.result()


@pytest.mark.launch(fixture=description)
def test_becomes_active_answers_and_shuts_down():
    rclpy.init()
    node = rclpy.create_node("launch_test_client")
    try:
        for _ in range(100):
            if call(node, GetState, "/robot/vggt3_ros/get_state", GetState.Request()).current_state.label == "active":
                break
        answer = call(node, SaveMap, "/robot/save_map", SaveMap.Request(name="x"))
        assert answer.error_code == SaveMap.Response.NOTHING
    finally:
        node.destroy_node()
        rclpy.shutdown()
    yield
    # after the launch has shut down: the generator form checks that it did so in order
