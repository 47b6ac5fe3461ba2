"""Localization mode: localize each keyframe in the map and update map->odom. Nothing is stored.
Needs no ROS.
"""

import threading

import numpy as np

from vggt3_ros.geometry import se3


class Tracker:
    """worker: WorkerClient; map_odom: MapOdom; gate(): returns the GateConfig. found(stamp_ns,
    T_map_cam, covariance) is called for every accepted pose. One image is localized at a time; of
    those that arrive meanwhile, only the newest is kept.
    """

    def __init__(self, worker, map_odom, gate, found, logger):
        self._worker, self._map_odom, self._gate, self._found, self._log = (
            worker,
            map_odom,
            gate,
            found,
            logger,
        )
        self._lock = threading.Lock()
        self._running = self._asking = False
        self._next = None
        self.asked = self.localized = 0

    def start(self):
        with self._lock:
            self._running, self._next = True, None

    def stop(self):
        """Ignore a pending answer."""
        with self._lock:
            self._running, self._next = False, None

    def take(self, keyframe):
        """Localize a Keyframe by its image, camera, stamp_ns and T_odom_cam. Returns immediately."""
        with self._lock:
            self._next = keyframe
        self._ask()

    def _ask(self):
        with self._lock:
            keyframe = self._next
            if self._asking or not self._running or keyframe is None:
                return
            self._asking, self._next = True, None
        T_map_odom = self._map_odom.T_map_odom
        hint = None if T_map_odom is None else T_map_odom @ keyframe.T_odom_cam
        future = self._worker.localize(keyframe.image, keyframe.camera, hint)
        future.add_done_callback(lambda done: self._answered(keyframe, done))

    def _answered(self, keyframe, done):
        with self._lock:
            self._asking, running = False, self._running
        if running:
            self.asked += 1
            if done.exception() is not None:
                self._log.warning(f"not localized: {done.exception()}", throttle_duration_sec=5.0)
            elif done.result()["code"] != "ok":
                self._log.info(
                    f"not localized: {done.result()['message']}", throttle_duration_sec=5.0
                )
            else:
                self._place(keyframe, done.result())
        self._ask()

    def _place(self, keyframe, found):
        self.localized += 1
        T_map_cam = se3.orthonormalize(np.reshape(found["T_map_cam"], (4, 4)))
        T_map_odom = se3.orthonormalize(T_map_cam @ se3.inverse(keyframe.T_odom_cam))
        if self._map_odom.see(T_map_odom, keyframe.T_odom_cam, self._gate()):
            self._found(keyframe.stamp_ns, T_map_cam, np.reshape(found["covariance"], (6, 6)))
        else:
            self._log.warning(self._map_odom.withheld, throttle_duration_sec=1.0)
