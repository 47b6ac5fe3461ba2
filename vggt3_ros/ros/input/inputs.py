"""The node's input: keyframes from a front end, or plain topics from which keyframes are made."""

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from vggt3_ros.msg import Keyframe
from vggt3_ros.ros import qos
from vggt3_ros.ros.input.input_monitor import InputMonitor
from vggt3_ros.ros.input.topic_input import TopicInput


def make_input(node, core, jumped):
    """Return the input named by the parameter input.source. jumped() is called when the front
    end's frame jumps.
    """
    keyframes = core.parameters.node.input.source == "keyframes"
    return KeyframesInput(node, core) if keyframes else TopicInput(node, core, jumped)


class KeyframesInput:
    """Passes the topic keyframes to core.intake."""

    def __init__(self, node, core):
        self._intake = core.intake
        self.monitor = InputMonitor(
            node, lambda: core.parameters.node.input.timeout, core.intake.refuse, pauses=True
        )
        self.monitor.subscribe(
            Keyframe, "keyframes", self._take, qos.KEYFRAMES, MutuallyExclusiveCallbackGroup()
        )

    def _take(self, message):
        self.monitor.arrived()
        self._intake.take(message)

    def destroy(self):
        self.monitor.destroy()
