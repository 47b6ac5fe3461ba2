"""Monitor the input topics. If nothing arrives, report what is missing and why."""

import time
import traceback

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_policy_name_from_kind,
)
from rclpy.serialization import deserialize_message

from vggt3_ros.messages.reading import to_nanoseconds
from vggt3_ros.ros import qos
from vggt3_ros.ros.input.intake import shown

REPEAT_SECONDS = 30.0  # interval between warnings about the same missing input
LOSSES, LOST_SHARE = (
    10,
    0.1,
)  # lost messages, also as a share of those sent, that trigger a warning
SKEW_SECONDS = 5.0  # stamps farther from the node's clock are reported


def name_of(kind):
    """Return the name of a message class as package/msg/Name."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def decoded(data, kind):
    """Deserialize a message of the class `kind`. Raises ValueError if the bytes are invalid."""
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # RMWError, UnicodeDecodeError, MemoryError, ...
        raise ValueError(f"{len(data)} bytes are not a valid {name_of(kind)} message") from error


class Topic:
    """A subscription and its statistics.

    If its QoS leaves the reliability open (best available), it follows the publishers: reliable if
    all of them are, so that large images are not lost, else best effort. Bad messages (`callback`
    raises, or they cannot be decoded) are counted, and refuse(reason) is called for each.
    listener: the node that holds the subscription.
    """

    def __init__(self, node, listener, kind, name, callback, profile, group, refuse):
        self._node, self._listener, self._callback, self._type, self._refuse = (
            node,
            listener,
            callback,
            kind,
            refuse,
        )
        self.kind = name_of(kind)
        self.count = self.bad = 0
        self.reason = self.refused_policy = ""
        self._losses_reported = False
        # Delay from a message's stamp to its arrival, seconds of the node's clock.
        self._heard = self._skew = None
        self.lost, self._profile, self._group = 0, qos.own(profile), group
        self._reliability = qos.asked_reliability(node, name, profile)
        follows = self._reliability == ReliabilityPolicy.BEST_AVAILABLE
        self.subscription = self._subscribe(
            name, ReliabilityPolicy.BEST_EFFORT if follows else self._reliability
        )

    def _subscribe(self, name, reliability):
        profile = qos.own(self._profile)
        profile.reliability = reliability
        events = SubscriptionEventCallbacks(
            incompatible_qos=self._incompatible, message_lost=self._message_lost
        )
        # Decoded here, at no extra cost, because rclpy silently drops invalid messages.
        return self._listener.create_subscription(
            self._type,
            name,
            self._take,
            profile,
            callback_group=self._group,
            raw=True,
            event_callbacks=events,
            qos_overriding_options=qos.overridable_input(),
        )

    def follow(self):
        """Match the reliability of the publishers, unless the reliability is fixed."""
        fitting = [publisher for publisher in self.publishers if publisher.topic_type == self.kind]
        if self._reliability != ReliabilityPolicy.BEST_AVAILABLE or not fitting:
            return
        reliable = all(
            publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            for publisher in fitting
        )
        wanted = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        if wanted != self.subscription.qos_profile.reliability:
            before, self.subscription = self.subscription, self._subscribe(self.name, wanted)
            self._listener.destroy_subscription(before)

    @property
    def name(self):
        return self.subscription.topic_name

    def _take(self, data):
        self.count += 1
        self._heard = time.monotonic()
        try:
            message = decoded(data, self._type)
            if hasattr(message, "header"):
                self._skew = (
                    self._node.get_clock().now().nanoseconds - to_nanoseconds(message.header.stamp)
                ) / 1e9
            self._callback(message)
        except ValueError as error:
            self._bad(str(error))
        except InvalidHandle:
            raise  # deactivated in the meantime
        except Exception as error:
            # No message may prevent the next one from being processed.
            self._node.get_logger().error(
                f"{self.name}: unexpected error in a message:\n{traceback.format_exc()}"
            )
            self._bad(f"{type(error).__name__}: {error}")

    def _bad(self, reason):
        self.bad += 1
        self.reason = shown(reason)
        self._refuse(f"message on {self.name}: {reason}")

    def _incompatible(self, event):
        self.refused_policy = qos_policy_name_from_kind(event.last_policy_kind)

    def _message_lost(self, event):
        self.lost += event.total_count_change
        if (
            not self._losses_reported
            and self.lost >= LOSSES
            and self.lost >= LOST_SHARE * (self.lost + self.count)
        ):
            self._losses_reported = True
            self._node.get_logger().warning(
                f"{self.name}: {self.lost} of {self.lost + self.count} messages were lost. Large messages need a reliable publisher, "
                "compression (input.image_transport, input.depth_transport), or larger middleware buffers: see 'Images get lost' in "
                "docs/connect.md"
            )

    def describe(self):
        """Return one line: type, QoS, publishers, count and age of the messages."""
        return f"{self.name} ({self.kind}; {_named(self.subscription.qos_profile)}): " + ", ".join(
            filter(
                None,
                [
                    self._publishers(),
                    self._messages(),
                    f"{self.bad} of them bad ({self.reason})" if self.bad else "",
                ],
            )
        )

    def _messages(self):
        if not self.count:
            return "no message" if self.publishers else ""
        text = f"{self.count} messages, the last {time.monotonic() - self._heard:.1f} s ago" + (
            f", {self.lost} lost" if self.lost else ""
        )
        if self._skew is None or abs(self._skew) <= SKEW_SECONDS:
            return text
        return text + (
            f" and stamped {abs(self._skew):.1f} s {'before' if self._skew > 0 else 'after'} this node's clock "
            "(check use_sim_time)"
        )

    @property
    def publishers(self):
        return self._node.get_publishers_info_by_topic(self.name)

    def _publishers(self):
        publishers = self.publishers
        wrong = [text for text in map(self._unfit, publishers) if text]
        seen = {0: "no publisher", 1: "1 publisher"}.get(
            len(publishers), f"{len(publishers)} publishers"
        )
        if not publishers and self.refused_policy:
            seen += f" now; one was refused for its {self.refused_policy}"
        return ", ".join([seen, *wrong])

    def _unfit(self, publisher):
        """Return why no message of a publisher can arrive; empty if it can."""
        name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        if publisher.topic_type != self.kind:
            return f"{name} publishes {publisher.topic_type}"
        compatibility, reason = qos_check_compatible(
            publisher.qos_profile, self.subscription.qos_profile
        )
        if compatibility != QoSCompatibility.ERROR:
            return ""
        return (
            f"incompatible QoS of {name}: {reason.strip(' ;').removeprefix('ERROR: ')} (it offers {_named(publisher.qos_profile)}; "
            f"see qos_overrides.{self.name}.subscription)"
        )

    @property
    def can_come(self):
        """Whether there is a compatible publisher."""
        return any(not self._unfit(publisher) for publisher in self.publishers)


class InputMonitor:
    """Warns if input is missing and publishes diagnostics.

    refuse(reason) counts bad messages. notes(): further facts from the input (list of texts).
    pauses: input that has arrived once may pause as long as there is a publisher (keyframes: the
    robot may stand still). listener: see Topic; `node` by default.
    """

    def __init__(self, node, timeout, refuse, notes=list, pauses=False, listener=None):
        self._listener = listener or node
        self._node, self._timeout, self._refuse, self._notes, self._pauses = (
            node,
            timeout,
            refuse,
            notes,
            pauses,
        )
        self.topics, self._others = [], []  # required and optional topics
        self._arrived, self._any = time.monotonic(), False
        self._warned = None
        self._diagnostics = node.create_publisher(
            DiagnosticArray,
            "/diagnostics",
            qos.own(qos.EVENTS),
            qos_overriding_options=qos.overridable(),
        )

    def subscribe(self, kind, name, callback, profile, group, needed=True):
        """Create and return a Topic. needed: warn if nothing arrives on it."""
        topic = Topic(
            self._node, self._listener, kind, name, callback, profile, group, self._refuse
        )
        (self.topics if needed else self._others).append(topic)
        return topic

    def arrived(self):
        """Record that complete input has arrived."""
        self._arrived, self._any = time.monotonic(), True

    def check(self):
        """Warn if input has been missing for too long, and publish diagnostics. Returns what is
        missing, or an empty text.
        """
        for topic in (*self.topics, *self._others):
            topic.follow()
        text = self._complaint()
        now, log = time.monotonic(), self._node.get_logger()
        if text and (self._warned is None or now - self._warned > REPEAT_SECONDS):
            self._warned = now
            log.warning(text)
        elif not text and self._warned is not None:
            self._warned = None
            log.info("input arrives")
        self._publish(text)
        return text

    def _complaint(self):
        timeout, quiet = self._timeout(), time.monotonic() - self._arrived
        if (
            not timeout
            or quiet < timeout
            or (self._pauses and self._any and all(topic.can_come for topic in self.topics))
        ):
            return ""
        return f"no input for {quiet:.0f} s; waiting for " + "; ".join(
            [topic.describe() for topic in self.topics] + self._notes()
        )

    def _publish(self, text):
        level = DiagnosticStatus.WARN if text else DiagnosticStatus.OK
        values = [
            KeyValue(key=topic.name, value=topic.describe().split("): ", 1)[1])
            for topic in (*self.topics, *self._others)
        ]
        values += [KeyValue(key="note", value=note) for note in self._notes()]
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().lstrip('/')}: input",
            message=text or ("arrives" if self._any else "waiting"),
            hardware_id="vggt3_ros",
            values=values,
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def destroy(self):
        for topic in (*self.topics, *self._others):
            self._listener.destroy_subscription(topic.subscription)
        self._node.destroy_publisher(self._diagnostics)


def _named(profile):
    reliability = {
        ReliabilityPolicy.RELIABLE: "reliable",
        ReliabilityPolicy.BEST_EFFORT: "best effort",
    }
    durability = {
        DurabilityPolicy.VOLATILE: "volatile",
        DurabilityPolicy.TRANSIENT_LOCAL: "transient local",
    }
    return (
        f"{reliability.get(profile.reliability, profile.reliability.name.lower())}, "
        f"{durability.get(profile.durability, profile.durability.name.lower())}"
    )
