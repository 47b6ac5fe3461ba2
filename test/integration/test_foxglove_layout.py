"""The Foxglove (and Lichtblick) layout names what the node has: its topics, of a type that the
panel shows, and fields of its messages.
"""

import json

from folders import ROOT
from ros_graph import until
from vggt3_ros.msg import Status

LAYOUT = json.loads((ROOT / "config" / "foxglove.json").read_text())
PANELS = LAYOUT["configById"]
SHOWN_IN_3D = {
    "sensor_msgs/msg/PointCloud2",
    "nav_msgs/msg/Path",
    "nav_msgs/msg/OccupancyGrid",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "visualization_msgs/msg/Marker",
    "visualization_msgs/msg/MarkerArray",
}


def panels(kind):
    return [config for name, config in PANELS.items() if name.startswith(f"{kind}!")]


def paths():
    """Topic and field of every path that a plot or a state panel follows."""
    for config in (*panels("Plot"), *panels("StateTransitions")):
        for path in config["paths"]:
            topic, _, field = path["value"].partition(".")
            yield topic, field


def test_every_topic_is_there_of_a_type_that_its_panel_shows(graph):
    graph.backend(wait=False, input__source="odometry")
    (scene,) = panels("3D")
    assert scene["followTf"] == "map"
    assert {"/map", "/path", "/loop_markers", "/pose"} <= {
        topic for topic, shown in scene["topics"].items() if shown["visible"]
    }
    wanted = dict.fromkeys(scene["topics"], SHOWN_IN_3D)
    for config in panels("DiagnosticSummary"):
        wanted[config["topicToRender"]] = {"diagnostic_msgs/msg/DiagnosticArray"}
    for topic in (config["topicPath"] for config in panels("RawMessages")):
        wanted[topic] = {"vggt3_ros/msg/Status"}
    wanted |= {topic: {"vggt3_ros/msg/Status"} for topic, _ in paths()}
    for topic, kinds in wanted.items():
        publishers = until(lambda topic=topic: graph.client.get_publishers_info_by_topic(topic))
        assert {publisher.topic_type for publisher in publishers} <= kinds, topic
    for config in panels("Image"):
        topic = config["imageMode"]["imageTopic"]
        (listener,) = until(
            lambda topic=topic: graph.client.get_subscriptions_info_by_topic(topic)
        )
        assert listener.topic_type == "sensor_msgs/msg/Image"


def test_every_field_is_one_of_the_message():
    found = dict(paths())
    assert found and not {field for _, field in paths()} - set(Status.get_fields_and_field_types())


def test_every_panel_has_its_place_and_every_place_its_panel():
    def leaves(place):
        if isinstance(place, str):
            return [place]
        return [*leaves(place["first"]), *leaves(place["second"])]

    assert sorted(leaves(LAYOUT["layout"])) == sorted(PANELS)
