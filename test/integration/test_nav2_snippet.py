"""The Nav2 section of docs/connect.md: what its snippet has the static layer of a costmap
subscribe to is there, and is what that reads.
"""

import re
import shlex
import signal
import subprocess

import pytest
import yaml
from folders import ROOT
from nav_msgs.msg import OccupancyGrid
from random_keyframes import make_keyframe
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_graph import until
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from vggt3_ros.ros import qos

SECTION = re.search("## Nav2\n(.*?)\n## ", (ROOT / "docs" / "connect.md").read_text(), re.S)[1]


@pytest.fixture
def backend(graph):
    """As the section starts it without a distribution."""
    command = shlex.split(re.search(r"scripts/run (backend .*)", SECTION)[1], comments=True)
    parameters = {
        "store": graph.folder / "store",
        "refine_every_keyframes": 4,
        "memory.steps": 1,
        "idle_distillation": 0.0,
        "status_period": 0.1,
        "grid.min_height": -0.5,
        "grid.max_height": 0.5,
        "grid.resolution": 0.5,
    }
    given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    process = subprocess.Popen(
        [command[0], "--backend", "fake_backend:Backend", *command[1:], *given]
    )
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_the_static_layer_gets_its_grid(graph, backend):
    costmap = yaml.safe_load(re.search("```yaml\n(.*?)```", SECTION, re.S)[1])["global_costmap"][
        "global_costmap"
    ]["ros__parameters"]
    layer = costmap["static_layer"]
    assert (
        costmap["plugins"][0] == "static_layer"
        and layer["plugin"] == "nav2_costmap_2d::StaticLayer"
    )
    durability = (
        DurabilityPolicy.TRANSIENT_LOCAL
        if layer["map_subscribe_transient_local"]
        else DurabilityPolicy.VOLATILE
    )
    # as StaticLayer asks for it
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
    grids = graph.listen(OccupancyGrid, layer["map_topic"], profile)
    clouds = graph.listen(PointCloud2, "/map_points")
    transforms = graph.listen(TFMessage, "/tf", qos.TF)
    until(lambda: graph.keyframes.get_subscription_count())
    graph.send(*[make_keyframe(id) for id in range(4)])
    grid = until(lambda: next((grid for grid in grids if grid.data), None))
    assert (
        grid.header.frame_id == costmap["global_frame"]
        and set(grid.data) <= {-1, 0, 100}
        and 100 in grid.data
    )
    assert grid.info.origin.orientation.w == pytest.approx(1.0)  # the costmap reads no orientation
    assert until(lambda: clouds)[-1].width
    found = until(lambda: transforms)[-1].transforms[0]
    assert (found.header.frame_id, found.child_frame_id) == (costmap["global_frame"], "odom")
