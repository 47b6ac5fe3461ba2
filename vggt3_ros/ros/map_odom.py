"""TF map->odom: re-broadcast with a stamp ahead of now, because a refinement takes long; identity before the first one."""

from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import to_transform_message


class MapOdomBroadcaster:
    """`transform()` gives (4, 4) T_map_odom, `frames()` (map, odom). While the transform is None or odom, before the first keyframe, is
    empty, nothing is sent."""

    def __init__(self, node, rate, transform, frames, tolerance, enabled):
        self._node, self._transform, self._frames, self._tolerance, self._enabled = node, transform, frames, tolerance, enabled
        self._publisher = node.create_publisher(TFMessage, "/tf", qos.TF)
        # A steady clock: a paused or restarted simulation must not silence it.
        self._timer = node.create_timer(1.0 / rate, self.broadcast, callback_group=MutuallyExclusiveCallbackGroup(),
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    def broadcast(self):
        parent, child = self._frames()
        transform = self._transform()
        now = self._node.get_clock().now()
        if transform is None or not child or not self._enabled() or now.nanoseconds == 0:  # simulated time has not begun
            return
        stamp = (now + Duration(nanoseconds=int(self._tolerance() * 1e9))).to_msg()
        message = TransformStamped(header=Header(stamp=stamp, frame_id=parent), child_frame_id=child,
                                   transform=to_transform_message(transform))
        self._publisher.publish(TFMessage(transforms=[message]))

    def destroy(self):
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)
