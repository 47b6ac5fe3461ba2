"""Publish recorded time on /clock, for nodes with use_sim_time."""

import time

from rclpy.clock import Clock as NodeClock
from rclpy.clock import ClockType
from rosgraph_msgs.msg import Clock

from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_nanoseconds


class SimulatedClock:
    """Publishes its time at `rate` Hz while the node is spun. Its time stands still until
    :meth:`run_to`.
    """

    def __init__(self, node, start_ns, rate):
        self._from_ns = self._to_ns = start_ns
        self._begin, self._seconds = time.monotonic(), 0.0
        self._publisher = node.create_publisher(Clock, "/clock", qos.EVENTS)
        node.create_timer(
            1 / rate, self.publish, clock=NodeClock(clock_type=ClockType.STEADY_TIME)
        )

    def run_to(self, stamp_ns, seconds):
        """Advance evenly to stamp_ns within `seconds` of real time, then stop. Time never goes
        back.
        """
        self._from_ns, self._to_ns = self.now_ns(), max(stamp_ns, self.now_ns())
        self._begin, self._seconds = time.monotonic(), seconds

    def now_ns(self):
        passed = time.monotonic() - self._begin
        if passed >= self._seconds:
            return self._to_ns
        return self._from_ns + int((self._to_ns - self._from_ns) * passed / self._seconds)

    def publish(self):
        self._publisher.publish(Clock(clock=from_nanoseconds(self.now_ns())))
