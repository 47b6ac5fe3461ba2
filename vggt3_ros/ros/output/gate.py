"""map->odom as it is broadcast: what refinements correct within the gate's limits, or where
localization mode sees the robot. No ROS.
"""

import threading

import numpy as np

from vggt3_ros.geometry import se3

SIGHTINGS = 3  # images in a row that must agree before localization mode believes in a far jump


class MapOdom:
    """T_map_odom (4, 4) is in force, None while localization mode has not found the robot.
    withheld: why the newest correction is not in force; empty: it is. Threads may share it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.reset()

    def reset(self, T_map_odom=np.eye(4)):
        with self._lock:
            self.T_map_odom, self.withheld, self._jump, self._sightings = T_map_odom, "", None, 0

    def correct(self, snapshot, gate):
        """Put a Snapshot's correction in force unless `gate` (GateConfig) objects; returns what
        was in force before (None: nothing was).
        """
        with self._lock:
            before = self.T_map_odom
            self.withheld = "" if before is None else objection(snapshot, before, gate)
            if not self.withheld:
                self.T_map_odom = snapshot.T_map_odom
            return before

    def see(self, T_map_odom, T_odom_cam, gate):
        """An image localized in the map places the robot so. Whether that is believed: a far jump
        has to be seen several times.
        """
        with self._lock:
            metres = (
                0.0
                if self.T_map_odom is None
                else jump(self.T_map_odom, T_map_odom, T_odom_cam)[0]
            )
            if gate.relocalization and metres > gate.relocalization:
                again = (
                    self._jump is not None
                    and jump(self._jump, T_map_odom, T_odom_cam)[0] <= gate.relocalization
                )
                self._jump, self._sightings = T_map_odom, self._sightings + 1 if again else 1
                if self._sightings < SIGHTINGS:
                    self.withheld = (
                        f"localization jumps {metres:.2f} m, gate.relocalization is {gate.relocalization:.2f}: "
                        f"seen by {self._sightings} of {SIGHTINGS} images in a row"
                    )
                    return False
            self.T_map_odom, self.withheld, self._jump, self._sightings = T_map_odom, "", None, 0
            return True


def objection(snapshot, T_map_odom, gate):
    """Why the correction of `snapshot` against T_map_odom (4, 4) is beyond `gate` (GateConfig);
    empty when it is within.
    """
    if not len(snapshot):
        return ""
    metres, radians = jump(T_map_odom, snapshot.T_map_odom, snapshot.T_odom_cam[snapshot.newest])
    if gate.translation and metres > gate.translation:
        return f"the newest keyframe would jump {metres:.2f} m, gate.translation is {gate.translation:.2f}"
    if gate.rotation and radians > gate.rotation:
        return f"the newest keyframe would turn by {radians:.3f} rad, gate.rotation is {gate.rotation:.3f}"
    accepted = [loop for loop in snapshot.loops if loop.accepted]
    residual = float(np.median([loop.residual_m for loop in accepted])) if accepted else 0.0
    if gate.residual and residual > gate.residual:
        return f"loops and solved poses disagree by {residual:.3f} m, gate.residual is {gate.residual:.3f}"
    share = len(accepted) / len(snapshot.loops) if snapshot.loops else 1.0
    if share < gate.inlier_ratio:
        return f"{len(accepted)} of {len(snapshot.loops)} loops were accepted, gate.inlier_ratio is {gate.inlier_ratio:.2f}"
    return ""


def jump(T_map_odom_a, T_map_odom_b, T_odom_cam):
    """How far (m) and how much (rad) a camera moves in the map from one map->odom to another."""
    moved = se3.inverse(T_map_odom_a @ T_odom_cam) @ T_map_odom_b @ T_odom_cam
    return float(np.linalg.norm(moved[:3, 3])), float(se3.rotation_angle(moved))
