"""Real rclpy over real DDS: a domain of its own per test process, nothing leaves the machine."""

import os

os.environ["ROS_DOMAIN_ID"] = str(5 + os.getpid() % 90)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from ros_graph import Graph  # noqa: E402


@pytest.fixture(scope="session")
def context():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graph(context, tmp_path, monkeypatch):
    """Starts back-end nodes on the fake back end, and clients; ends them all."""
    tests = os.path.dirname(os.path.dirname(__file__))
    monkeypatch.setenv("PYTHONPATH", tests + ":" + os.environ.get("PYTHONPATH", ""))
    graph = Graph(tmp_path)
    yield graph
    graph.close()
