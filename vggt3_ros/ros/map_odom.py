"""TF map->odom: re-broadcast with a stamp ahead of now, because a refinement takes long; identity before the first one."""

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import to_transform_message


class MapOdomBroadcaster:
    """`frames()` gives (map, odom); odom is empty before the first keyframe, and nothing is sent.

    Swap `transform` ((4, 4) T_map_odom) to change what is broadcast.
    """

    def __init__(self, node, rate, frames, tolerance, enabled):
        self._node, self._frames, self._tolerance, self._enabled = node, frames, tolerance, enabled
        self.transform = np.eye(4)
        self._publisher = node.create_publisher(TFMessage, "/tf", qos.TF)
        # A steady clock: a paused or restarted simulation must not silence it.
        self._timer = node.create_timer(1.0 / rate, self.broadcast, callback_group=MutuallyExclusiveCallbackGroup(),
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    def broadcast(self):
        parent, child = self._frames()
        now = self._node.get_clock().now()
        if not child or not self._enabled() or now.nanoseconds == 0:  # simulated time has not begun
            return
        stamp = (now + Duration(nanoseconds=int(self._tolerance() * 1e9))).to_msg()
        message = TransformStamped(header=Header(stamp=stamp, frame_id=parent), child_frame_id=child,
                                   transform=to_transform_message(self.transform))
        self._publisher.publish(TFMessage(transforms=[message]))

    def destroy(self):
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)
