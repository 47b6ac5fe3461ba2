"""qos_overrides.*: the quality of service of every topic of the node can be set by parameters, as
its publishers then have it.
"""

import pytest
from rcl_interfaces.srv import ListParameters
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros_graph import until

POLICIES = "depth", "history", "reliability", "durability"
PUBLISHED = (
    "path",
    "keyframe_poses",
    "map",
    "occupancy_grid",
    "loops",
    "loop_markers",
    "correction",
    "pose",
    "status",
    "status_marker",
    "diagnostics",
    "tf",
    "tf_static",
)
HEARD = {
    "keyframes": ["keyframes"],
    "odometry": ["image", "camera_info", "odometry", "tf_static", "tf"],
    "pose": ["frontend_pose"],
}


@pytest.mark.parametrize("source", HEARD)
def test_every_topic_has_its_parameters(graph, source):
    graph.backend(wait=False, input__source=source)
    names = graph.call(
        ListParameters,
        "/vggt3_ros/list_parameters",
        ListParameters.Request(prefixes=["qos_overrides"]),
    ).result.names
    for topic in PUBLISHED:
        assert {f"qos_overrides./{topic}.publisher.{policy}" for policy in POLICIES} <= set(
            names
        ), topic
    for topic in HEARD[source]:
        assert {f"qos_overrides./{topic}.subscription.{policy}" for policy in POLICIES} <= set(
            names
        ), topic


def test_an_override_is_what_others_see_and_leaves_the_other_topics_alone(graph):
    graph.backend(
        wait=False,
        **{
            "qos_overrides./tf.publisher.reliability": "best_effort",
            "qos_overrides./pose.publisher.depth": 3,
            "qos_overrides./keyframes.subscription.reliability": "best_effort",
            "qos_overrides./occupancy_grid.publisher.durability": "volatile",
        },
    )

    def profile(topic, ends=graph.client.get_publishers_info_by_topic):
        return until(lambda: [end.qos_profile for end in ends(topic)])[0]

    assert profile("/tf").reliability == ReliabilityPolicy.BEST_EFFORT
    assert (
        profile("/keyframes", graph.client.get_subscriptions_info_by_topic).reliability
        == ReliabilityPolicy.BEST_EFFORT
    )
    assert profile("/occupancy_grid").durability == DurabilityPolicy.VOLATILE
    for topic in ("/path", "/map", "/status"):
        assert (profile(topic).reliability, profile(topic).durability) == (
            ReliabilityPolicy.RELIABLE,
            DurabilityPolicy.TRANSIENT_LOCAL,
        )
    assert profile("/pose").reliability == ReliabilityPolicy.RELIABLE
