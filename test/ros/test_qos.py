"""Profiles of the topics, without a node: what late and lossy subscribers get. Overrides on a
running node: integration/test_qos_overrides.py, test_input_qos.py.
"""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from rclpy.qos import DurabilityPolicy, QoSCompatibility, ReliabilityPolicy, qos_check_compatible

from vggt3_ros.ros import qos


class Node:
    """The parameters of a node in a namespace."""

    def __init__(self, **overrides):
        self.values, self.declared = overrides, {}

    def resolve_topic_name(self, topic):
        return f"/robot/{topic}"

    def has_parameter(self, name):
        return name in self.declared

    def declare_parameter(self, name, default, descriptor):
        assert descriptor.read_only
        self.declared[name] = self.values.get(name, default)

    def get_parameter(self, name):
        return type("Parameter", (), {"value": self.declared[name]})


NAME = "qos_overrides./robot/image.subscription.reliability"


def test_an_own_profile_can_be_changed_without_touching_the_shared_one():
    mine = qos.own(qos.LATCHED)
    mine.depth, mine.reliability = 77, ReliabilityPolicy.BEST_EFFORT
    assert qos.LATCHED.depth == 1 and qos.LATCHED.reliability == ReliabilityPolicy.RELIABLE


def test_latched_topics_serve_late_and_ordinary_subscribers():
    assert qos.LATCHED.durability == DurabilityPolicy.TRANSIENT_LOCAL
    for subscriber in (qos.LATCHED, qos.EVENTS, qos.TF_STATIC):
        compatible, reason = qos_check_compatible(qos.LATCHED, subscriber)
        assert compatible != QoSCompatibility.ERROR, reason
    # one that asks for the last message gets none from a topic that keeps none
    assert qos_check_compatible(qos.EVENTS, qos.LATCHED)[0] == QoSCompatibility.ERROR


def test_a_keyframe_is_never_sent_best_effort():
    assert qos.KEYFRAMES.reliability == ReliabilityPolicy.RELIABLE
    assert qos.KEYFRAMES.depth == qos.KEYFRAME_QUEUE


def test_the_reliability_of_the_profile_holds_unless_a_parameter_says_otherwise():
    node = Node()
    assert qos.asked_reliability(node, "image", qos.IMAGES) == ReliabilityPolicy.BEST_AVAILABLE
    assert list(node.declared) == [NAME]
    # a second subscription of the topic asks the same parameter
    assert qos.asked_reliability(node, "image", qos.KEYFRAMES) == ReliabilityPolicy.BEST_AVAILABLE
    node = Node(**{NAME: "reliable"})
    assert qos.asked_reliability(node, "image", qos.IMAGES) == ReliabilityPolicy.RELIABLE


def test_a_reliability_that_there_is_not_is_refused_with_the_parameter():
    with pytest.raises(ValueError, match="best_available, best_effort, reliable") as refused:
        qos.asked_reliability(Node(**{NAME: "sometimes"}), "image", qos.IMAGES)
    assert NAME in str(refused.value) and "'sometimes'" in str(refused.value)
