"""Real rclpy over real DDS: a domain of its own per test process, nothing leaves the machine."""

from types import SimpleNamespace

import numpy as np
import pytest
import ros_domain  # noqa: F401  before rclpy
from folders import python_path
from random_keyframes import CAMERA, make_keyframe

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from ros_graph import Graph  # noqa: E402

from vggt3_ros.system import environment  # noqa: E402

environment.shorten_switch_interval()  # as the node does in its own process


@pytest.fixture(scope="session")
def context():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def fake_backend_path(monkeypatch):
    """Processes that this test starts find the fake back end, and what it imports."""
    monkeypatch.setenv("PYTHONPATH", python_path())


@pytest.fixture
def graph(context, tmp_path, fake_backend_path):
    """Starts back-end nodes on the fake back end, and clients; ends them all."""
    graph = Graph(tmp_path)
    yield graph
    graph.close()


@pytest.fixture
def random_sequence(fake_backend_path):
    """Five keyframes of noise, as a Sequence without truth, for the load tools on the fake back
    end.
    """
    keyframes = [make_keyframe(id) for id in range(5)]
    return SimpleNamespace(
        keyframes=keyframes,
        camera=CAMERA,
        groundtruth=None,
        T_odom_cam=np.array([k.T_odom_cam for k in keyframes]),
    )
