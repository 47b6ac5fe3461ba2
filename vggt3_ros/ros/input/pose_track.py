"""The front end's poses over time: one at an image's stamp, without the jumps that front ends make. Needs no ROS.

A jump (the front end closed a loop, or began anew) is a step that no camera makes. After it the poses go on from where the
motion so far leads, so that consecutive keyframes differ by motion alone, and T_kept_frontend says how the front end's frame
lies in that of the poses kept here.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.ros.input.synchronizer import RESTART_NS, WAIT, Miss

HISTORY = 4000  # poses kept: ten seconds of the fastest odometry
SAME_NS = 1_000_000  # stamps this close are the same moment: front ends round them
VELOCITY_NS, STALE_NS = 50_000_000, 1_000_000_000  # velocity is measured over at least so long, and forgotten after
ACCELERATION, ANGULAR_ACCELERATION = 10.0, 20.0  # m/s^2, rad/s^2: a camera in a hand


@dataclass(frozen=True, eq=False)
class TrackedPose:
    """T_kept_body (4, 4); covariance (6, 6) of the pose by the front end, in the axes of the poses kept here, or None; bridged: (6,)
    variances that bridged jumps have added since the start, metres and radians."""

    T_kept_body: np.ndarray
    covariance: np.ndarray | None
    bridged: np.ndarray


class PoseTrack:
    """Poses of one body in one frame. gap_ns: between poses farther apart nothing is interpolated.

    jump_translation (metres), jump_rotation (radians): what a step may deviate from steady motion, beside what acceleration
    explains; 0: jumps are not looked for. T_kept_frontend (4, 4): where the last run left it.
    """

    def __init__(self, gap_ns, jump_translation=0.0, jump_rotation=0.0, T_kept_frontend=None):
        self.gap_ns, self.jump_translation, self.jump_rotation = gap_ns, jump_translation, jump_rotation
        self.T_kept_frontend = np.eye(4) if T_kept_frontend is None else T_kept_frontend
        self._bridged = np.zeros(6)
        self.clear()

    def clear(self):
        self._stamps, self._poses = [], []
        self._given = []  # the last two (stamp_ns, T_frontend_body) as they came

    def add(self, stamp_ns, T_frontend_body, covariance=None):
        """Take one pose, its covariance (6, 6) in the front end's axes. Returns the (metres, radians) it jumped, or None; a pose older than
        the newest is left out."""
        if self._stamps and stamp_ns < self._stamps[-1] - RESTART_NS:
            self.clear()  # the clock or the bag began again
        if self._stamps and stamp_ns <= self._stamps[-1]:
            return None
        pose = self.T_kept_frontend @ T_frontend_body
        jump = self._jump(stamp_ns, pose, T_frontend_body)
        self._given = [*self._given[-1:], (stamp_ns, T_frontend_body)]
        if jump is not None:
            pose, size, allowed = jump
            self.T_kept_frontend = se3.orthonormalize(pose @ se3.inverse(T_frontend_body))
            self._bridged = self._bridged + np.square(np.repeat(allowed, 3))
        if covariance is not None:
            turn = np.kron(np.eye(2), self.T_kept_frontend[:3, :3])
            covariance = turn @ covariance @ turn.T
        self._stamps.append(stamp_ns)
        self._poses.append(TrackedPose(pose, covariance, self._bridged))
        if len(self._stamps) > HISTORY:
            del self._stamps[:HISTORY // 4], self._poses[:HISTORY // 4]
        return None if jump is None else size

    def _jump(self, stamp_ns, pose, T_frontend_body):
        """(pose by steady motion, size of the jump, what was allowed), or None when `pose` is no jump: by the motion kept so far, or by
        that of the step before, as it was given (fast from the first pose on; a simulated robot's sudden start)."""
        if not self._stamps or not (self.jump_translation or self.jump_rotation):
            return None
        square = ((stamp_ns - self._stamps[-1]) / 1e9) ** 2
        allowed = self.jump_translation + ACCELERATION * square, self.jump_rotation + ANGULAR_ACCELERATION * square
        steady = self._steady(stamp_ns)
        size = _apart(steady, pose)
        again = self._next_given(stamp_ns)
        if self._within(size, allowed) or (again is not None and self._within(_apart(again, T_frontend_body), allowed)):
            return None
        return steady, size, allowed

    def _within(self, size, allowed):
        return not ((self.jump_translation and size[0] > allowed[0]) or (self.jump_rotation and size[1] > allowed[1]))

    def _next_given(self, stamp_ns):
        """Where the last step of the poses as given leads, None without."""
        if len(self._given) < 2 or stamp_ns - self._given[0][0] > STALE_NS:
            return None
        (before_ns, before), (last_ns, last) = self._given
        return last @ se3.exp(se3.log(se3.inverse(before) @ last) * ((stamp_ns - last_ns) / (last_ns - before_ns)))

    def _steady(self, stamp_ns):
        """Where the motion so far leads."""
        newest = self._stamps[-1]
        at = bisect_left(self._stamps, newest - VELOCITY_NS)
        before = at if newest - self._stamps[at] >= VELOCITY_NS or at == 0 else at - 1
        last, span = self._poses[-1].T_kept_body, newest - self._stamps[before]
        if not 0 < span < STALE_NS or stamp_ns - newest > STALE_NS:
            return last
        motion = se3.log(se3.inverse(self._poses[before].T_kept_body) @ last)
        return last @ se3.exp(motion * ((stamp_ns - newest) / span))

    @property
    def newest_ns(self):
        return self._stamps[-1] if self._stamps else None

    def at(self, stamp_ns):
        """TrackedPose at a stamp, interpolated; WAIT while a later pose may still come; Miss."""
        if not self._stamps:
            return WAIT
        after = bisect_left(self._stamps, stamp_ns)
        for near in (after - 1, after):
            if 0 <= near < len(self._stamps) and abs(self._stamps[near] - stamp_ns) <= SAME_NS:
                return self._poses[near]
        if after == len(self._stamps):
            return WAIT
        if after == 0:
            return Miss("it is older than the first pose")
        begin, end = self._stamps[after - 1], self._stamps[after]
        if end - begin > self.gap_ns:
            return Miss(f"the poses around it are {(end - begin) / 1e9:.3f} s apart")
        earlier, later = self._poses[after - 1], self._poses[after]
        motion = se3.log(se3.inverse(earlier.T_kept_body) @ later.T_kept_body)
        pose = earlier.T_kept_body @ se3.exp(motion * ((stamp_ns - begin) / (end - begin)))
        return TrackedPose(pose, later.covariance, later.bridged)


def _apart(a, b):
    """(metres, radians) between two poses."""
    between = se3.inverse(a) @ b
    return float(np.linalg.norm(between[:3, 3])), float(se3.rotation_angle(between))


def motion_covariance(earlier, later, T_body_cam):
    """Covariance (6, 6) of the camera's motion between two TrackedPoses, in the later camera's frame, x y z rotX rotY rotZ; None
    when the front end gives nothing that can be believed.

    A covariance of poses in fixed axes that grows with the motion, as odometry's does, says by how much: S_later - F S_earlier F^T
    with F the first-order effect of the earlier heading error on the later position. Constant or shrinking ones say nothing.
    """
    bridged = later.bridged - earlier.bridged
    turn = later.T_kept_body @ T_body_cam
    lever = later.T_kept_body[:3, :3] @ T_body_cam[:3, 3]
    to_camera = np.kron(np.eye(2), turn[:3, :3].T) @ _carry(lever)
    if bridged.any():
        return to_camera @ np.diag(bridged) @ to_camera.T  # of the body, alike in all directions
    if earlier.covariance is None or later.covariance is None:
        return None
    carried = _carry(later.T_kept_body[:3, 3] - earlier.T_kept_body[:3, 3])
    growth = later.covariance - carried @ earlier.covariance @ carried.T
    covariance = to_camera @ growth @ to_camera.T
    covariance = 0.5 * (covariance + covariance.T)
    if not np.all(np.isfinite(covariance)):
        return None
    values = np.linalg.eigvalsh(covariance)
    # Axes that a filter holds at zero or at a huge constant would claim perfect knowledge, or none at all.
    return covariance if values[0] > 1e-12 and values[-1] < 100.0 else None


def _carry(offset):
    """(6, 6): errors of a pose in fixed axes as those of a point `offset` (3,) away that turns with it."""
    x, y, z = offset
    carried = np.eye(6)
    carried[:3, 3:] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return carried
