"""A front end's border: keyframes over DDS with their odometry, and TF odom->camera."""

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

# keyframes sent and not yet counted by the back end, so that no queue overflows
IN_FLIGHT = qos.KEYFRAME_QUEUE // 2
STATUS = "vggt3_ros/msg/Status"
WAKE_SECONDS = 0.1  # a Ctrl-C does not end the wait for a message
# a simulated clock stands still at its start, so that all nodes hear of it before it runs
SETTLE_SECONDS = 1.0


class Player(Node):
    """Publishes on topic keyframes, each stamped with the time when it is sent; or, where
    `start_ns` is given, as far from `start_ns` as its own stamp is from `first_ns`, that of the
    first.

    clock_rate: publish the time of the stamps on /clock so many times a second, for nodes with
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
        """Whether a back end listens and has said so in its status. Where that is, the ROS graph
        knows: the back end may be in another namespace than this, with only the keyframes
        remapped.
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
        """Send each of an iterable of Keyframes due(count, stamp_ns) seconds after the first,
        later where the back end or the iterable is slower; on a simulated clock the later ones are
        put off with it. Returns when all have been taken; `sent` counts them. Waits `wait` seconds
        for a back end (RuntimeError without one).
        """
        self._spin_until(
            self._listened_to,
            wait,
            f"no back end listens on topic {self._keyframes.topic_name}, or it publishes no status",
        )
        if self._simulated:
            self._spin_for(SETTLE_SECONDS)
        begin, before = None, 0.0
        for keyframe in keyframes:
            # opening a bag takes a while: the pace begins with what it yields
            begin = time.monotonic() if begin is None else begin
            seconds = due(self.sent, keyframe.stamp_ns)
            # after a stall time goes on at most twice as fast as asked for, and does not jump
            if self._simulated:
                begin = max(begin, time.monotonic() + (seconds - before) / 2 - seconds)
                self._simulated.run_to(self._stamp(keyframe), begin + seconds - time.monotonic())
                before = seconds
            self._spin_until(
                lambda: self.sent - self._taken() < IN_FLIGHT,
                60.0,
                "the back end has stopped taking keyframes",
            )
            self._spin_for(begin + seconds - time.monotonic())
            if self._simulated:
                self._simulated.publish()
            keyframe = replace(keyframe, stamp_ns=self._stamp(keyframe))
            self._broadcast(keyframe.T_odom_cam, from_nanoseconds(keyframe.stamp_ns))
            self._keyframes.publish(from_keyframe(keyframe, self._odom_frame, self._camera_frame))
            self.sent += 1
        self._spin_until(
            lambda: self._taken() >= self.sent, 60.0, "the back end did not take all keyframes"
        )

    def _stamp(self, keyframe):
        if self._shift_ns is not None:
            return keyframe.stamp_ns + self._shift_ns
        self._last_ns = max(self.get_clock().now().nanoseconds, self._last_ns + 1)
        return self._last_ns

    def close(self):
        """The executor first: what it holds of the node would complain at exit that it is gone."""
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
    """Play an iterable of Keyframes in a ROS context of its own; for options see Player and
    Player.play. Returns how many were sent: all, unless a Ctrl-C ended it, which to a ROS node is
    an end like any other.
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
            # from here to the end of Python: another must not cut the end short
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            player.close()
        return player.sent
