"""Publish keyframes with their odometry over DDS, like a front end, and TF odom->camera."""

import signal
import time
from dataclasses import replace

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.msg import Keyframe, Status
from vggt3_ros.ros import qos
from vggt3_ros.ros.clients.simulated_clock import SimulatedClock
from vggt3_ros.ros.conversions import from_keyframe, from_nanoseconds, to_transform_message

# Most unacknowledged keyframes, so that no queue overflows.
IN_FLIGHT = qos.KEYFRAME_QUEUE // 2
STATUS = "vggt3_ros/msg/Status"
WAKE_SECONDS = 0.1  # Ctrl-C does not interrupt waiting for a message
# The simulated clock is paused at its start, so that all nodes receive it before it runs.
SETTLE_SECONDS = 1.0


class Player(Node):
    """Publishes keyframes, stamped with the time of sending; or, if `start_ns` is given, shifted
    so that `first_ns`, the stamp of the first, becomes `start_ns`.

    clock_rate: publish the time of the stamps on /clock at this rate, Hz, for nodes with
    use_sim_time; 0: do not. Needs start_ns.
    """

    def __init__(
        self,
        first_ns,
        odom_frame="odom",
        camera_frame="camera",
        start_ns=None,
        clock_rate=0.0,
        **options,
    ):
        super().__init__("vggt3_player", **options)
        self._odom_frame, self._camera_frame = odom_frame, camera_frame
        self._shift_ns = None if start_ns is None else start_ns - first_ns
        self._last_ns, self.sent = -1, 0
        self._keyframes = self.create_publisher(Keyframe, "keyframes", qos.KEYFRAMES)
        self._tf = self.create_publisher(TFMessage, "/tf", qos.TF)
        self._status = self._received = self._received_before = None
        self._simulated = SimulatedClock(self, start_ns, clock_rate) if clock_rate else None
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _listened_to(self):
        """Return whether a back end is subscribed and has published its status.

        Its status topic is found through the ROS graph, because it may be in another namespace
        with only the keyframes remapped.
        """
        if self._status is None:
            back_ends = {
                _node(end)
                for end in self.get_subscriptions_info_by_topic(self._keyframes.topic_name)
            }
            topics = [
                topic
                for topic, kinds in self.get_topic_names_and_types()
                if STATUS in kinds
                and back_ends & {_node(end) for end in self.get_publishers_info_by_topic(topic)}
            ]
            if not topics:
                return False
            own = self.resolve_topic_name("status")
            self._status = self.create_subscription(
                Status, own if own in topics else topics[0], self._heard, qos.LATCHED
            )
        return self._keyframes.get_subscription_count() and self._received is not None

    def _heard(self, status):
        self._received = status.received
        if self._received_before is None:
            self._received_before = status.received

    def play(self, keyframes, due, wait=30.0):
        """Send Keyframes due(count, stamp_ns) seconds after the first, or later if the back end or
        the iterable is slower; a simulated clock is then delayed as well.

        Returns when all have been accepted; `sent` counts them. Waits `wait` seconds for a back
        end and raises RuntimeError without one.
        """
        self._spin_until(
            self._listened_to,
            wait,
            f"no back end is subscribed to {self._keyframes.topic_name}, or it publishes no status",
        )
        if self._simulated:
            self._spin_for(SETTLE_SECONDS)
        begin, before = None, 0.0
        for keyframe in keyframes:
            # Opening a bag takes a while: start the clock with the first keyframe.
            begin = time.monotonic() if begin is None else begin
            seconds = due(self.sent, keyframe.stamp_ns)
            # After a stall, simulated time runs at most twice as fast, and does not jump.
            if self._simulated:
                begin = max(begin, time.monotonic() + (seconds - before) / 2 - seconds)
                self._simulated.run_to(self._stamp(keyframe), begin + seconds - time.monotonic())
                before = seconds
            self._spin_until(
                lambda: self.sent - self._taken() < IN_FLIGHT,
                60.0,
                "the back end has stopped accepting keyframes",
            )
            self._spin_for(begin + seconds - time.monotonic())
            if self._simulated:
                self._simulated.publish()
            keyframe = replace(keyframe, stamp_ns=self._stamp(keyframe))
            self._broadcast(keyframe.T_odom_cam, from_nanoseconds(keyframe.stamp_ns))
            self._keyframes.publish(from_keyframe(keyframe, self._odom_frame, self._camera_frame))
            self.sent += 1
        self._spin_until(
            lambda: self._taken() >= self.sent, 60.0, "the back end did not accept all keyframes"
        )

    def _stamp(self, keyframe):
        if self._shift_ns is not None:
            return keyframe.stamp_ns + self._shift_ns
        self._last_ns = max(self.get_clock().now().nanoseconds, self._last_ns + 1)
        return self._last_ns

    def close(self):
        """Shut down the executor first, because it would complain at exit about the destroyed
        node.
        """
        self._executor.shutdown()
        self.destroy_node()

    def _taken(self):
        return self._received - self._received_before

    def _broadcast(self, T_odom_cam, stamp):
        header = Header(stamp=stamp, frame_id=self._odom_frame)
        self._tf.publish(
            TFMessage(
                transforms=[
                    TransformStamped(
                        header=header,
                        child_frame_id=self._camera_frame,
                        transform=to_transform_message(T_odom_cam),
                    )
                ]
            )
        )

    def _spin_for(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, WAKE_SECONDS))

    def _spin_until(self, condition, seconds, complaint):
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise RuntimeError(f"{complaint}, waited {seconds:.0f} s")
            self._executor.spin_once(timeout_sec=WAKE_SECONDS)


def _node(end):
    return end.node_namespace, end.node_name


def play(keyframes, first_ns, due, **options):
    """Play an iterable of Keyframes in an rclpy context of its own; for options see Player and
    Player.play.

    Returns how many were sent: all, unless Ctrl-C interrupted it.
    """
    wait = options.pop("wait", 30.0)
    with rclpy.init(
        args=options.pop("ros_arguments", []), signal_handler_options=SignalHandlerOptions.NO
    ):
        player = Player(first_ns, **options)
        try:
            player.play(keyframes, due, wait)
        except KeyboardInterrupt:
            player.get_logger().info(f"stopped after {player.sent} keyframes")
        finally:
            # Another Ctrl-C must not interrupt the shutdown.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            player.close()
        return player.sent
