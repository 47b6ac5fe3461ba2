"""Localization mode: each keyframe is looked for in the map, and map->odom follows what is found.
Nothing is stored. No ROS.
"""

import threading

import numpy as np

from vggt3_ros.geometry import se3


class Tracker:
    """worker: WorkerClient; map_odom: MapOdom; gate() -> GateConfig; found(stamp_ns, T_map_cam,
    covariance) is called with every pose that is believed. One image is asked about at a time; of
    those that come meanwhile, the newest is next.
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
        """An answer on its way is no longer taken."""
        with self._lock:
            self._running, self._next = False, None

    def take(self, keyframe):
        """A Keyframe: image, camera, stamp_ns and T_odom_cam are used. Returns at once."""
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
