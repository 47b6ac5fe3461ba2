"""The front end's poses over time: one at an image's stamp, without the jumps that front ends
make. The same for topics, bags and files.

A jump (the front end closed a loop, or began anew) is a step that no camera makes. After it the
poses go on from where the motion so far leads, so that consecutive keyframes differ by motion
alone, and T_kept_frontend says how the front end's frame lies in that of the poses kept here.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from vggt3_ros.frontend.synchronizer import RESTART_NS, WAIT, Miss
from vggt3_ros.geometry import se3

HISTORY = 4000  # poses kept of a live front end: ten seconds of the fastest odometry
SAME_NS = 1_000_000  # stamps this close are the same moment: front ends round them
# velocity is measured over at least so long, and forgotten after
VELOCITY_NS, STALE_NS = 50_000_000, 1_000_000_000
ACCELERATION, ANGULAR_ACCELERATION = 10.0, 20.0  # m/s^2, rad/s^2: a camera in a hand


@dataclass(frozen=True, eq=False)
class TrackedPose:
    """T_kept_body (4, 4); covariance (6, 6) of the pose by the front end, in the axes of the poses
    kept here, or None; bridged: (6,) variances that bridged jumps have added since the start,
    metres and radians.
    """

    T_kept_body: np.ndarray
    covariance: np.ndarray | None
    bridged: np.ndarray


class PoseTrack:
    """Poses of one body in one frame. gap_ns: between poses farther apart nothing is interpolated.

    jump_translation (metres), jump_rotation (radians): what a step may deviate from steady motion,
    beside what acceleration explains; 0: jumps are not looked for. T_kept_frontend (4, 4): where
    the last run left it. history: how many poses are kept, None: all. late: how many were left out
    because they were stamped no later than the one before.
    """

    def __init__(
        self,
        gap_ns,
        jump_translation=0.0,
        jump_rotation=0.0,
        T_kept_frontend=None,
        history=HISTORY,
    ):
        self.gap_ns, self.jump_translation, self.jump_rotation = (
            gap_ns,
            jump_translation,
            jump_rotation,
        )
        self._history, self.late = history, 0
        self.T_kept_frontend = np.eye(4) if T_kept_frontend is None else T_kept_frontend
        self._bridged = np.zeros(6)
        self.clear()

    def clear(self):
        self._stamps, self._poses = [], []
        self._lost = []  # stamps at which the front end said that it knows no pose
        self._given = []  # the last two (stamp_ns, T_frontend_body) as they came

    def add(self, stamp_ns, T_frontend_body, covariance=None):
        """Take one pose, its covariance (6, 6) in the front end's axes. Returns the (metres,
        radians) it jumped, or None; a pose no later than the newest is left out.
        """
        if self._stamps and stamp_ns < self._stamps[-1] - RESTART_NS:
            self.clear()  # the clock or the bag began again
        if self._stamps and stamp_ns <= self._stamps[-1]:
            self.late += 1
            return None
        return self._keep(stamp_ns, T_frontend_body, covariance)

    def add_all(self, stamps_ns, T_frontend_body, covariances=None):
        """Take many poses (N, 4, 4) of increasing stamps (N,), as :meth:`add` would one by one,
        with covariances (N, 6, 6), zeros where there is none. Returns [(stamp_ns, (metres,
        radians)), ...] of the jumps.
        """
        stamps_ns, jumps = np.asarray(stamps_ns, np.int64), []
        steady = self._goes_on(stamps_ns, T_frontend_body)
        for k, stamp_ns in enumerate(stamps_ns.tolist()):
            covariance = (
                None if covariances is None or not covariances[k].any() else covariances[k]
            )
            size = self._keep(stamp_ns, T_frontend_body[k], covariance, may_jump=not steady[k])
            if size is not None:
                jumps.append((stamp_ns, size))
        return jumps

    def _goes_on(self, stamps_ns, poses):
        """Mask (N,) of the poses that go on from the step before, as most do: no jump needs to be
        looked for there.
        """
        out = np.zeros(len(stamps_ns), bool)
        if len(out) < 3:
            return out
        before, last, now = stamps_ns[:-2], stamps_ns[1:-1], stamps_ns[2:]
        share = ((now - last) / (last - before))[:, None]
        expected = poses[1:-1] @ se3.exp(se3.log(se3.inverse(poses[:-2]) @ poses[1:-1]) * share)
        away = se3.inverse(expected) @ poses[2:]
        allowed = self._allowed((now - last) / 1e9)
        near = (np.linalg.norm(away[:, :3, 3], axis=1) <= allowed[0]) | (not self.jump_translation)
        turned = (se3.rotation_angle(away) <= allowed[1]) | (not self.jump_rotation)
        out[2:] = near & turned & (now - before <= STALE_NS)
        return out

    def _keep(self, stamp_ns, T_frontend_body, covariance, may_jump=True):
        pose = self.T_kept_frontend @ T_frontend_body
        jump = self._jump(stamp_ns, pose, T_frontend_body) if may_jump else None
        self._given = [*self._given[-1:], (stamp_ns, T_frontend_body)]
        if jump is not None:
            pose, size, allowed = jump
            self.T_kept_frontend = se3.orthonormalize(pose @ se3.inverse(T_frontend_body))
            self._bridged = self._bridged + np.square(np.repeat(allowed, 3))
        if covariance is not None and not np.array_equal(self.T_kept_frontend[:3, :3], np.eye(3)):
            turn = np.kron(np.eye(2), self.T_kept_frontend[:3, :3])
            covariance = turn @ covariance @ turn.T
        self._stamps.append(stamp_ns)
        self._poses.append(TrackedPose(pose, covariance, self._bridged))
        if self._history and len(self._stamps) > self._history:
            del self._stamps[: self._history // 4], self._poses[: self._history // 4]
        return None if jump is None else size

    def lose(self, stamp_ns):
        """The front end said that it knows no pose at this stamp: none is made up across it."""
        insort(self._lost, stamp_ns)
        if self._history:
            del self._lost[: -self._history]

    def _jump(self, stamp_ns, pose, T_frontend_body):
        """(pose by steady motion, size of the jump, what was allowed), or None when `pose` is no
        jump: by the motion kept so far, or by that of the step before, as it was given (fast from
        the first pose on; a simulated robot's sudden start).
        """
        if not self._stamps or not (self.jump_translation or self.jump_rotation):
            return None
        allowed = self._allowed((stamp_ns - self._stamps[-1]) / 1e9)
        steady = self._steady(stamp_ns)
        size = _apart(steady, pose)
        again = self._next_given(stamp_ns)
        if self._within(size, allowed) or (
            again is not None and self._within(_apart(again, T_frontend_body), allowed)
        ):
            return None
        return steady, size, allowed

    def _allowed(self, seconds):
        return (
            self.jump_translation + ACCELERATION * seconds**2,
            self.jump_rotation + ANGULAR_ACCELERATION * seconds**2,
        )

    def _within(self, size, allowed):
        return not (
            (self.jump_translation and size[0] > allowed[0])
            or (self.jump_rotation and size[1] > allowed[1])
        )

    def _next_given(self, stamp_ns):
        """Where the last step of the poses as given leads, None without."""
        if len(self._given) < 2 or stamp_ns - self._given[0][0] > STALE_NS:
            return None
        (before_ns, before), (last_ns, last) = self._given
        return last @ se3.exp(
            se3.log(se3.inverse(before) @ last) * ((stamp_ns - last_ns) / (last_ns - before_ns))
        )

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
        if bisect_left(self._lost, begin) < bisect_left(self._lost, end):
            return Miss("the front end was lost there")
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
    """Covariance (6, 6) of the camera's motion between two TrackedPoses, in the later camera's
    frame, x y z rotX rotY rotZ; None when the front end gives nothing that can be believed.

    A covariance of poses in fixed axes that grows with the motion, as odometry's does, says by how
    much: S_later - F S_earlier F^T with F the first-order effect of the earlier heading error on
    the later position. Constant or shrinking ones say nothing.
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
    # Axes that a filter holds at zero or at a huge constant would claim perfect knowledge, or none
    # at all.
    return covariance if values[0] > 1e-12 and values[-1] < 100.0 else None


def _carry(offset):
    """(6, 6): errors of a pose in fixed axes as those of a point `offset` (3,) away that turns
    with it.
    """
    x, y, z = offset
    carried = np.eye(6)
    carried[:3, 3:] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return carried
