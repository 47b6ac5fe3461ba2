"""Quality of service of every topic. Each can be overridden by parameters
(qos_overrides.<topic>...).
"""

from copy import copy

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

RELIABILITIES = "best_available", "best_effort", "reliable"
KEYFRAME_QUEUE = 50  # keyframes that may wait while the disk is busy

# Keyframes are sent only once and must not be lost.
KEYFRAMES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=KEYFRAME_QUEUE,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
# Late subscribers receive the last message: map, path, poses, loops, status.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
EVENTS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
TF = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
# As reliable as the publisher (see input_monitor.Topic): best effort loses large images in bursts, but
# some drivers offer nothing else.
IMAGES = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.BEST_AVAILABLE,
    durability=DurabilityPolicy.VOLATILE,
)
ODOMETRY = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=400,
    reliability=ReliabilityPolicy.BEST_AVAILABLE,
    durability=DurabilityPolicy.VOLATILE,
)
TF_STATIC = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def own(profile):
    """Return a copy, because rclpy writes a topic's overrides into its profile, which other topics
    share.
    """
    return copy(profile)


def overridable():
    """Return the options by which parameters override the policies of a publisher."""
    return QoSOverridingOptions(
        (
            QoSPolicyKind.HISTORY,
            QoSPolicyKind.DEPTH,
            QoSPolicyKind.DURABILITY,
            QoSPolicyKind.RELIABILITY,
        )
    )


def overridable_input():
    """Return the options by which parameters override the policies of a subscription, except
    reliability: see asked_reliability.
    """
    return QoSOverridingOptions(
        (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.DURABILITY)
    )


def asked_reliability(node, topic, profile):
    """Return the ReliabilityPolicy of a subscription.

    It is set by the parameter qos_overrides.<topic>.subscription.reliability and defaults to that
    of `profile`. Declared here, because rclpy would resolve "best_available" once, by the
    publishers present at that moment. Raises ValueError for an invalid value.
    """
    name = f"qos_overrides.{node.resolve_topic_name(topic)}.subscription.reliability"
    if not node.has_parameter(name):
        node.declare_parameter(
            name,
            profile.reliability.short_key,
            ParameterDescriptor(
                read_only=True,
                description="Reliability of the subscription; best_available: reliable if all publishers are",
                additional_constraints=f"one of {', '.join(RELIABILITIES)}",
            ),
        )
    value = node.get_parameter(name).value
    if value not in RELIABILITIES:
        raise ValueError(f"{name} must be one of {', '.join(RELIABILITIES)}, got '{value}'")
    return ReliabilityPolicy.get_from_short_key(value)
