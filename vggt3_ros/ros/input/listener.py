"""The node's high-rate subscriptions, served by a thread of their own."""

import traceback

from rclpy.node import Node
from rclpy.parameter import Parameter

from vggt3_ros.ros.spinner import Spinner


class Listener(Node):
    """A node NAME_input beside the node `owner`, which resolves its topic names and holds its
    parameters.

    For every message, rclpy's executor goes through all entities of its nodes. In the main node, a
    camera of 30 Hz with depth and odometry kept the interpreter busy two thirds of the time, 70 %
    of it in the executor: on two loaded cores, 687 of 750 images found no pose in time. On a node
    with few subscriptions this is a quarter of the time, and 2 of 1500 images were dropped.
    """

    def __init__(self, owner):
        self._owner = None
        super().__init__(
            f"{owner.get_name()}_input",
            context=owner.context,
            namespace=owner.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("start_type_description_service", value=False)],
        )
        self._owner, self._spinner = owner, None

    def begin(self):
        """Start serving the subscriptions."""
        self._spinner = Spinner(self, self._failed)

    def declare_parameter(self, name, *arguments, **options):
        """Declare a parameter of the owner, where qos_overrides.* are looked up."""
        return (self._owner or super()).declare_parameter(name, *arguments, **options)

    def get_parameter(self, name):
        return (self._owner or super()).get_parameter(name)

    def create_subscription(self, kind, topic, *arguments, **options):
        return super().create_subscription(
            kind, self._owner.resolve_topic_name(topic), *arguments, **options
        )

    def _failed(self):
        self._owner.get_logger().error(f"a callback failed:\n{traceback.format_exc()}")

    def close(self):
        """Wait for the running callback and destroy the node with its subscriptions."""
        if self._spinner is not None:
            self._spinner.close()
