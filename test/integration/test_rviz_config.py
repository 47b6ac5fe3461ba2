"""The RViz configuration shows what the node publishes: each display's topic is there, of its
type, heard with the QoS it asks for.
"""

from pathlib import Path

import yaml
from ros_graph import until

TYPES = {
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "Path": "nav_msgs/msg/Path",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Marker": "visualization_msgs/msg/Marker",
    "Map": "nav_msgs/msg/OccupancyGrid",
    "PoseWithCovariance": "geometry_msgs/msg/PoseWithCovarianceStamped",
}
LATCHED = {"Transient Local": "TRANSIENT_LOCAL", "Volatile": "VOLATILE"}


def test_every_display_has_its_topic(graph):
    config = yaml.safe_load((Path(__file__).parents[2] / "config" / "backend.rviz").read_text())[
        "Visualization Manager"
    ]
    assert config["Global Options"]["Fixed Frame"] == "map"
    displays = {
        display["Topic"]["Value"]: display for display in config["Displays"] if "Topic" in display
    }
    assert {"map", "path", "loop_markers", "status_marker"} <= {
        topic for topic, display in displays.items() if display["Enabled"]
    }
    graph.backend(wait=False)
    for topic, display in displays.items():
        (publisher,) = until(lambda: graph.client.get_publishers_info_by_topic(f"/{topic}"))
        assert (
            publisher.topic_type == TYPES[display["Class"].removeprefix("rviz_default_plugins/")]
        ), topic
        assert (
            publisher.qos_profile.durability.name == LATCHED[display["Topic"]["Durability Policy"]]
        ), topic
