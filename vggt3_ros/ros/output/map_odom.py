"""Broadcast TF map->odom periodically with a stamp in the future, because a refinement takes long;
identity before the first one.
"""

import threading
import time
import traceback

from geometry_msgs.msg import TransformStamped
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_nanoseconds, to_transform_message


class Stamps:
    """Strictly increasing stamps, even while simulated time is paused. Of two transforms with the
    same stamp, tf2 keeps the first, which would be the outdated correction.
    """

    def __init__(self):
        self._wanted_ns = self._last_ns = -1

    def after(self, wanted_ns):
        """Return the wanted stamp, or the next free nanosecond. Follows time that jumps back (a
        restarted simulation).
        """
        back, self._wanted_ns = wanted_ns < self._wanted_ns, wanted_ns
        self._last_ns = wanted_ns if back else max(wanted_ns, self._last_ns + 1)
        return self._last_ns


class MapOdomBroadcaster:
    """transform(): returns T_map_odom (4, 4). frames(): returns the names (map, odom). Nothing is
    sent while the transform is None or odom is empty, which it is before the first keyframe.
    """

    def __init__(self, node, rate, transform, frames, tolerance, enabled):
        self._node, self._transform, self._frames, self._tolerance, self._enabled = (
            node,
            transform,
            frames,
            tolerance,
            enabled,
        )
        self._publisher = node.create_publisher(
            TFMessage, "/tf", qos.own(qos.TF), qos_overriding_options=qos.overridable()
        )
        self._stamps, self._sending = Stamps(), threading.Lock()
        self._period, self._stopped = 1.0 / rate, threading.Event()
        self._thread = threading.Thread(target=self._rebroadcast, daemon=True, name="map_odom")
        self._thread.start()

    def _rebroadcast(self):
        """Broadcast from a thread of its own on the steady clock, so that neither a busy executor
        nor a paused simulation makes map->odom stale.
        """
        due = time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._period, time.monotonic())
            try:
                self.broadcast()
            except Exception:
                if not self._node.context.ok():
                    return
                self._node.get_logger().error(
                    f"cannot broadcast map->odom:\n{traceback.format_exc()}",
                    throttle_duration_sec=5.0,
                )

    def broadcast(self):
        """Broadcast the current transform with a stamp after the last one. Thread-safe."""
        with self._sending:  # a newer transform must not get an older stamp
            parent, child = self._frames()
            transform = self._transform()
            now_ns = self._node.get_clock().now().nanoseconds
            # simulated time has not begun
            if transform is None or not child or not self._enabled() or now_ns == 0:
                return
            stamp = from_nanoseconds(self._stamps.after(now_ns + int(self._tolerance() * 1e9)))
            message = TransformStamped(
                header=Header(stamp=stamp, frame_id=parent),
                child_frame_id=child,
                transform=to_transform_message(transform),
            )
            self._publisher.publish(TFMessage(transforms=[message]))

    def destroy(self):
        self._stopped.set()
        self._thread.join()
        self._node.destroy_publisher(self._publisher)
