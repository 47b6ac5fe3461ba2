"""Subscriptions of plain topics are as reliable as their publishers, unless a parameter says what
they are.
"""

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from ros_graph import until
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vggt3_ros.ros.conversions import from_nanoseconds
from vggt3_ros.ros.image_messages import from_rgb

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
OVERRIDE = "qos_overrides./image.subscription.reliability"


def reliability(graph):
    """Of the back end's subscription as DDS knows it; None while there is not exactly one."""
    found = [
        info.qos_profile.reliability
        for info in graph.client.get_subscriptions_info_by_topic("/image")
    ]
    return found[0] if len(found) == 1 else None


def start(graph, **parameters):
    return graph.backend(wait=False, input__source="odometry", **parameters)


def test_large_images_of_a_reliable_publisher_all_arrive_in_a_burst(graph):
    publisher = graph.client.create_publisher(Image, "image", QoSProfile(depth=20))
    backend = start(graph)
    until(lambda: reliability(graph) == RELIABLE and publisher.get_subscription_count() == 1)
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)  # 2.8 MB each
    topic = backend._active_parts.input.monitor.topics[0]
    before = topic.count
    for k in range(10):
        publisher.publish(
            from_rgb(image, Header(stamp=from_nanoseconds(10**18 + k * 10**7), frame_id="camera"))
        )
    until(lambda: topic.count == before + 10)
    assert topic.lost == 0


def test_it_follows_publishers_that_come_and_go(graph):
    start(graph)
    until(lambda: reliability(graph) == BEST_EFFORT)  # nobody yet: whoever comes is heard
    reliable = graph.client.create_publisher(Image, "image", QoSProfile(depth=5))
    until(lambda: reliability(graph) == RELIABLE)
    driver = graph.client.create_publisher(Image, "image", qos_profile_sensor_data)
    until(lambda: reliability(graph) == BEST_EFFORT)
    until(lambda: driver.get_subscription_count() == reliable.get_subscription_count() == 1)
    graph.client.destroy_publisher(driver)
    until(lambda: reliability(graph) == RELIABLE)


@pytest.mark.parametrize("value, expected", [("best_effort", BEST_EFFORT), ("reliable", RELIABLE)])
def test_a_parameter_fixes_it(graph, value, expected):
    graph.client.create_publisher(
        Image, "image", QoSProfile(depth=5) if value == "best_effort" else qos_profile_sensor_data
    )
    backend = start(graph, **{OVERRIDE: value})
    monitor = backend._active_parts.input.monitor
    until(lambda: monitor.topics[0].publishers)
    monitor.check()
    assert monitor.topics[0].subscription.qos_profile.reliability == expected
    until(lambda: reliability(graph) == expected)


def test_a_value_that_is_none_is_an_error_that_names_the_parameter(graph, monkeypatch):
    backend = graph.backend(activate=False, input__source="odometry", **{OVERRIDE: "perfect"})
    said = []
    monkeypatch.setattr(backend.get_logger(), "error", lambda text, **options: said.append(text))
    backend.trigger_configure()
    assert backend.trigger_activate() != backend.trigger_activate().SUCCESS
    assert any(
        f"{OVERRIDE} must be one of best_available, best_effort, reliable, got 'perfect'" in text
        for text in said
    )
