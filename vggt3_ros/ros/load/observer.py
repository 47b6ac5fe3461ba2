"""Observe the back end like a robot does: age of map->odom, localization responses, acknowledged
keyframes.
"""

import random
import threading
import time
from collections import Counter

from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from vggt3_ros.messages.reading import to_nanoseconds
from vggt3_ros.msg import Keyframe, KeyframePoses, Status
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.spinner import Spinner
from vggt3_ros.srv import Localize

ANSWER_SECONDS = 10.0  # time-out after which a request counts as lost
END_SECONDS = ANSWER_SECONDS + 10.0
IN_FLIGHT = qos.KEYFRAME_QUEUE // 2


class Observer(Node):
    """Publishes keyframes, subscribes, and sends requests in threads of its own until
    :meth:`close`.

    context: of rclpy. tolerance: transform_tolerance of the node, seconds. greatest_age: largest
    age of map->odom, seconds. answers: response time of each localize request, seconds; codes:
    Counter of their error codes, "lost" without a response.
    """

    def __init__(self, name, context, tolerance=0.1):
        super().__init__(name, context=context)
        self.status, self.poses, self._tolerance = None, None, tolerance
        self.greatest_age, self._stamp_ns = 0.0, None
        self.answers, self.codes = [], Counter()
        self.closing = threading.Event()
        self.keyframes = self.create_publisher(Keyframe, "keyframes", qos.KEYFRAMES)
        self.acknowledged = []  # (monotonic seconds, acknowledged keyframes) of every status
        self.create_subscription(Status, "status", self._take_status, qos.LATCHED)
        self.create_subscription(
            KeyframePoses,
            "keyframe_poses",
            lambda message: setattr(self, "poses", message),
            qos.LATCHED,
        )
        self.create_subscription(TFMessage, "tf", self._take_transform, qos.TF)
        self.localizer = self.create_client(Localize, "localize")
        self._threads, self._spinner = [], Spinner(self)

    def start(self, work):
        """Run `work` in a thread that must end soon after `closing` is set."""
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def close(self):
        """End all threads, then the node. Raises RuntimeError if one does not end."""
        self.closing.set()
        for thread in self._threads:
            thread.join(END_SECONDS)
            if thread.is_alive():
                raise RuntimeError(f"thread {thread.name} does not end")
        self._spinner.close()

    def _take_status(self, message):
        self.status = message
        self.acknowledged.append((time.monotonic(), stored(message)))

    # transforms
    # -------------------------------------------------------------------------------------------------------

    def _take_transform(self, message):
        """Record the age of the last transform, which is greatest just before the next one
        arrives.
        """
        now_ns, stamp_ns = time.time_ns(), to_nanoseconds(message.transforms[0].header.stamp)
        if self._stamp_ns is not None:
            self.greatest_age = max(
                self.greatest_age, (now_ns - self._stamp_ns) / 1e9 + self._tolerance
            )
        self._stamp_ns = stamp_ns

    def forget_ages(self):
        self.greatest_age = 0.0

    # keyframes
    # --------------------------------------------------------------------------------------------------------

    def send(self, stream, count, pace, waiting):
        """Publish `count` keyframes, the k-th pace(k) seconds after the first, while fewer than
        `waiting` are unacknowledged (None: regardless).

        Returns the seconds until all were acknowledged, or until a time-out. Raises RuntimeError
        if the back end stalls.
        """
        begin, before = time.monotonic(), self._taken()
        for k in range(count):
            time.sleep(max(0.0, begin + pace(k) - time.monotonic()))
            if waiting is not None and not self._until(
                lambda k=k: k - (self._taken() - before) < waiting
            ):
                raise RuntimeError("the back end has stopped accepting keyframes")
            self.keyframes.publish(stream.message(k, time.time_ns()))
        self._until(lambda: self._taken() - before >= count)
        return time.monotonic() - begin

    def _taken(self):
        return stored(self.status)

    @staticmethod
    def _until(condition, seconds=30.0):
        limit = time.monotonic() + seconds
        while not condition() and time.monotonic() < limit:
            time.sleep(0.002)
        return condition()

    # localization
    # -----------------------------------------------------------------------------------------------------

    def ask_forever(self, stream, period, seed=0):
        """Start a thread that localizes random images, `period` seconds apart, once there is a
        map.
        """
        self.start(lambda: self._ask_forever(stream, period, random.Random(seed)))

    def _ask_forever(self, stream, period, rng):
        info = from_camera(stream.camera)
        while not self.closing.wait(period * rng.uniform(0.5, 1.5)):
            if self.status is None or not self.status.generation:
                continue
            self.ask(
                Localize.Request(
                    image=stream.image(rng.randrange(len(stream))), camera_info=info, verify=True
                )
            )

    def ask(self, request, count=True):
        """Return the response, None on a time-out; counted unless told otherwise."""
        begin, done = time.monotonic(), threading.Event()
        future = self.localizer.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(ANSWER_SECONDS):
            self.codes["lost"] += count
            self.localizer.remove_pending_request(future)
            return None
        if count:
            self.answers.append(time.monotonic() - begin)
            self.codes[future.result().error_code] += 1
        return future.result()


def stored(status):
    """Return the number of sent keyframes that a Status acknowledges."""
    return status.received - status.refused - status.not_stored
