"""The map->odom transform that is broadcast: from refinements that pass the gate, or from
localization mode. Needs no ROS.
"""

import threading

import numpy as np

from vggt3_ros.geometry import se3

SIGHTINGS = 3  # consecutive images that must agree before localization mode accepts a large jump

IDENTITY = np.eye(4)
IDENTITY.setflags(write=False)


class MapOdom:
    """T_map_odom (4, 4): the current transform, None until localization mode finds the robot.
    withheld: why the newest correction is not applied, empty if it is. Thread-safe.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.reset()

    def reset(self, T_map_odom=IDENTITY):
        with self._lock:
            self.T_map_odom, self.withheld, self._jump, self._sightings = T_map_odom, "", None, 0

    def correct(self, snapshot, gate):
        """Apply a Snapshot's correction unless `gate` (GateConfig) objects. Returns the previous
        transform, None if there was none.
        """
        with self._lock:
            before = self.T_map_odom
            self.withheld = "" if before is None else objection(snapshot, before, gate)
            if not self.withheld:
                self.T_map_odom = snapshot.T_map_odom
            return before

    def see(self, T_map_odom, T_odom_cam, gate):
        """Apply a localization of the robot. Returns whether it was accepted: a large jump must be
        confirmed by several images.
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
                        f"localization jumps by {metres:.2f} m, gate.relocalization is {gate.relocalization:.2f}: "
                        f"confirmed by {self._sightings} of {SIGHTINGS} consecutive images"
                    )
                    return False
            self.T_map_odom, self.withheld, self._jump, self._sightings = T_map_odom, "", None, 0
            return True


def objection(snapshot, T_map_odom, gate):
    """Return why the correction from T_map_odom (4, 4) to `snapshot` exceeds `gate` (GateConfig);
    empty if it does not.
    """
    if not len(snapshot):
        return ""
    metres, radians = jump(T_map_odom, snapshot.T_map_odom, snapshot.T_odom_cam[snapshot.newest])
    if gate.translation and metres > gate.translation:
        return f"the newest keyframe would jump by {metres:.2f} m, gate.translation is {gate.translation:.2f}"
    if gate.rotation and radians > gate.rotation:
        return f"the newest keyframe would rotate by {radians:.3f} rad, gate.rotation is {gate.rotation:.3f}"
    accepted = [loop for loop in snapshot.loops if loop.accepted]
    residual = float(np.median([loop.residual_m for loop in accepted])) if accepted else 0.0
    if gate.residual and residual > gate.residual:
        return (
            f"the median loop residual is {residual:.3f} m, gate.residual is {gate.residual:.3f}"
        )
    share = len(accepted) / len(snapshot.loops) if snapshot.loops else 1.0
    if share < gate.inlier_ratio:
        return f"{len(accepted)} of {len(snapshot.loops)} loops were accepted, gate.inlier_ratio is {gate.inlier_ratio:.2f}"
    return ""


def jump(T_map_odom_a, T_map_odom_b, T_odom_cam):
    """Return the distance (m) and angle (rad) by which a camera moves in the map between two
    map->odom transforms.
    """
    moved = se3.inverse(T_map_odom_a @ T_odom_cam) @ T_map_odom_b @ T_odom_cam
    return float(np.linalg.norm(moved[:3, 3])), float(se3.rotation_angle(moved))
