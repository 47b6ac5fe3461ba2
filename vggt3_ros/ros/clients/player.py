"""A front end's border: keyframes over DDS with their odometry, and TF odom->camera."""

import time
from dataclasses import replace

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.msg import Keyframe, Status
from vggt3_ros.ros import qos
from vggt3_ros.ros.clients.simulated_clock import SimulatedClock
from vggt3_ros.ros.conversions import from_keyframe, from_nanoseconds, to_transform_message

IN_FLIGHT = qos.KEYFRAME_QUEUE // 2  # keyframes sent and not yet counted by the back end, so that no queue overflows
SETTLE_SECONDS = 1.0  # a simulated clock stands still at its start, so that all nodes hear of it before it runs


class Player(Node):
    """Publishes on topic keyframes. Stamps are moved so that `first_ns`, that of the first, becomes `start_ns` (now by default).

    clock_rate: publish the time of the stamps on /clock so many times a second, for nodes with use_sim_time; 0: do not.
    """

    def __init__(self, first_ns, odom_frame="odom", camera_frame="camera", start_ns=None, clock_rate=0.0, **options):
        super().__init__("vggt3_player", **options)
        self._odom_frame, self._camera_frame = odom_frame, camera_frame
        start_ns = self.get_clock().now().nanoseconds if start_ns is None else start_ns
        self._shift_ns = start_ns - first_ns
        self._keyframes = self.create_publisher(Keyframe, "keyframes", qos.KEYFRAMES)
        self._tf = self.create_publisher(TFMessage, "/tf", qos.TF)
        self._received = self._received_before = None
        self.create_subscription(Status, "status", self._heard, qos.LATCHED)
        self._simulated = SimulatedClock(self, start_ns, clock_rate) if clock_rate else None
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _heard(self, status):
        self._received = status.received
        if self._received_before is None:
            self._received_before = status.received

    def play(self, keyframes, due, wait=30.0):
        """Send each of an iterable of Keyframes due(count, stamp_ns) seconds after the first, later where the back end or the iterable
        is slower; on a simulated clock the later ones are put off with it. Returns how many when all have been taken. Waits `wait` seconds for a back end (RuntimeError without one).
        """
        self._spin_until(lambda: self._keyframes.get_subscription_count() and self._received is not None, wait,
                         "no back end listens on topic keyframes (or none publishes status)")
        if self._simulated:
            self._spin_for(SETTLE_SECONDS)
        begin, before, sent = None, 0.0, 0
        for keyframe in keyframes:
            begin = time.monotonic() if begin is None else begin  # opening a bag takes a while: the pace begins with what it yields
            seconds, stamp_ns = due(sent, keyframe.stamp_ns), keyframe.stamp_ns + self._shift_ns
            if self._simulated:  # after a stall time goes on at most twice as fast as asked for, and does not jump
                begin = max(begin, time.monotonic() + (seconds - before) / 2 - seconds)
                self._simulated.run_to(stamp_ns, begin + seconds - time.monotonic())
                before = seconds
            message = from_keyframe(replace(keyframe, stamp_ns=stamp_ns), self._odom_frame, self._camera_frame)
            self._spin_until(lambda: sent - self._taken() < IN_FLIGHT, 60.0, "the back end has stopped taking keyframes")
            self._spin_for(begin + seconds - time.monotonic())
            if self._simulated:
                self._simulated.publish()
            self._keyframes.publish(message)
            sent += 1
            self._broadcast(keyframe.T_odom_cam, from_nanoseconds(stamp_ns) if self._simulated else self.get_clock().now().to_msg())
        self._spin_until(lambda: self._taken() >= sent, 60.0, "the back end did not take all keyframes")
        return sent

    def close(self):
        """The executor first: what it holds of the node would complain at exit that it is gone."""
        self._executor.shutdown()
        self.destroy_node()

    def _taken(self):
        return self._received - self._received_before

    def _broadcast(self, T_odom_cam, stamp):
        header = Header(stamp=stamp, frame_id=self._odom_frame)
        self._tf.publish(TFMessage(transforms=[TransformStamped(header=header, child_frame_id=self._camera_frame,
                                                                transform=to_transform_message(T_odom_cam))]))

    def _spin_for(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _spin_until(self, condition, seconds, complaint):
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise RuntimeError(f"{complaint}, waited {seconds:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)


def play(keyframes, first_ns, due, **options):
    """Play an iterable of Keyframes in a ROS context of its own; for options see Player and Player.play."""
    wait = options.pop("wait", 30.0)
    with rclpy.init(args=options.pop("ros_arguments", [])):
        player = Player(first_ns, **options)
        try:
            return player.play(keyframes, due, wait)
        finally:
            player.close()
