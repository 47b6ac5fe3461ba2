"""The front end's poses over time: interpolated at an image's stamp, with jumps bridged. The same
for topics, bags and files.

A jump (the front end closed a loop, or was restarted) is a step that no camera can make. The poses
after it are transformed so that they continue the motion before it; consecutive keyframes then
differ by motion alone. T_kept_frontend is that transform: from the front end's frame to the frame
of the poses kept here.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from vggt3_ros.frontend.synchronizer import RESTART_NS, WAIT, Miss, Wait
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.se3 import Floats

HISTORY = 4000  # poses kept of a live front end: ten seconds at 400 Hz
SAME_NS = 1_000_000  # stamps this close count as equal, because front ends round them
# shortest interval that velocity is measured over, and time after which it is unknown
VELOCITY_NS, STALE_NS = 50_000_000, 1_000_000_000
ACCELERATION, ANGULAR_ACCELERATION = 10.0, 20.0  # m/s^2, rad/s^2: of a hand-held camera

Seconds = TypeVar("Seconds", float, Floats)


@dataclass(frozen=True, eq=False)
class TrackedPose:
    """T_kept_body (4, 4); covariance (6, 6) of the pose from the front end, in the axes of the kept
    frame, or None; bridged: (6,) variances added by all bridged jumps so far, m^2 and rad^2.
    """

    T_kept_body: Floats
    covariance: Floats | None
    bridged: Floats


class PoseTrack:
    """The poses of one body in one frame. gap_ns: longest gap that is interpolated.

    jump_translation (metres), jump_rotation (radians): largest deviation from steady motion beyond
    what acceleration explains; 0: jumps are not detected. T_kept_frontend (4, 4): initial value,
    from the previous run. history: how many poses are kept, None: all. late: how many poses were
    dropped because their stamp was not after the previous one.
    """

    def __init__(
        self,
        gap_ns: int,
        jump_translation: float = 0.0,
        jump_rotation: float = 0.0,
        T_kept_frontend: Floats | None = None,
        history: int | None = HISTORY,
    ) -> None:
        self.gap_ns, self.jump_translation, self.jump_rotation = (
            gap_ns,
            jump_translation,
            jump_rotation,
        )
        self._history, self.late = history, 0
        self.T_kept_frontend = np.eye(4) if T_kept_frontend is None else T_kept_frontend
        self._bridged: Floats = np.zeros(6)
        self.clear()

    def clear(self) -> None:
        """Forget all poses; T_kept_frontend stays."""
        self._stamps: list[int] = []
        self._poses: list[TrackedPose] = []
        self._lost: list[int] = []  # stamps at which the front end reported that it is lost
        # the last two (stamp_ns, T_frontend_body) as received
        self._given: list[tuple[int, Floats]] = []

    def add(
        self, stamp_ns: int, T_frontend_body: Floats, covariance: Floats | None = None
    ) -> tuple[float, float] | None:
        """Add a pose (4, 4) with its covariance (6, 6) in the front end's axes. Return the size of
        the jump (metres, radians), or None. A pose not later than the newest is dropped.
        """
        if self._stamps and stamp_ns < self._stamps[-1] - RESTART_NS:
            self.clear()  # the clock or the bag was restarted
        if self._stamps and stamp_ns <= self._stamps[-1]:
            self.late += 1
            return None
        return self._keep(stamp_ns, T_frontend_body, covariance)

    def add_all(
        self, stamps_ns: ArrayLike, T_frontend_body: Floats, covariances: Floats | None = None
    ) -> list[tuple[int, tuple[float, float]]]:
        """Add poses (N, 4, 4) with increasing stamps (N,), as :meth:`add` would one by one.
        covariances: (N, 6, 6), zeros where unknown. Return [(stamp_ns, (metres, radians)), ...] of
        the jumps.
        """
        stamps_ns = np.asarray(stamps_ns, np.int64)
        jumps: list[tuple[int, tuple[float, float]]] = []
        steady = self._continues(stamps_ns, T_frontend_body)
        for k, stamp_ns in enumerate(stamps_ns.tolist()):
            covariance = (
                None if covariances is None or not covariances[k].any() else covariances[k]
            )
            size = self._keep(stamp_ns, T_frontend_body[k], covariance, may_jump=not steady[k])
            if size is not None:
                jumps.append((stamp_ns, size))
        return jumps

    def _continues(self, stamps_ns: np.ndarray, poses: Floats) -> np.ndarray:
        """Return a mask (N,) of poses that continue the previous step, as most do, and need not be
        tested for a jump.
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

    def _keep(
        self,
        stamp_ns: int,
        T_frontend_body: Floats,
        covariance: Floats | None,
        may_jump: bool = True,
    ) -> tuple[float, float] | None:
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

    def lose(self, stamp_ns: int) -> None:
        """Note that the front end was lost at this stamp: no pose is interpolated across it."""
        insort(self._lost, stamp_ns)
        if self._history:
            del self._lost[: -self._history]

    def _jump(
        self, stamp_ns: int, pose: Floats, T_frontend_body: Floats
    ) -> tuple[Floats, tuple[float, float], tuple[float, float]] | None:
        """Return (pose by steady motion, size of the jump, limits) if `pose` is a jump, else None.

        It is none if it continues either the motion of the kept poses or the last step as received
        (for motion that is fast from the first pose on, or a simulated robot's sudden start).
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

    def _allowed(self, seconds: Seconds) -> tuple[Seconds, Seconds]:
        """Return the largest deviation (metres, radians) after `seconds`, a number or an array."""
        return (
            self.jump_translation + ACCELERATION * seconds**2,
            self.jump_rotation + ANGULAR_ACCELERATION * seconds**2,
        )

    def _within(self, size: tuple[float, float], allowed: tuple[float, float]) -> bool:
        return not (
            (self.jump_translation and size[0] > allowed[0])
            or (self.jump_rotation and size[1] > allowed[1])
        )

    def _next_given(self, stamp_ns: int) -> Floats | None:
        """Extrapolate the last step of the poses as received (4, 4); None without a recent step."""
        if len(self._given) < 2 or stamp_ns - self._given[0][0] > STALE_NS:
            return None
        (before_ns, before), (last_ns, last) = self._given
        motion = se3.log(se3.inverse(before) @ last)
        ahead = (stamp_ns - last_ns) / (last_ns - before_ns)
        return last @ se3.exp(motion * ahead)

    def _steady(self, stamp_ns: int) -> Floats:
        """Extrapolate the motion of the kept poses (4, 4)."""
        newest = self._stamps[-1]
        at = bisect_left(self._stamps, newest - VELOCITY_NS)
        before = at if newest - self._stamps[at] >= VELOCITY_NS or at == 0 else at - 1
        last, span = self._poses[-1].T_kept_body, newest - self._stamps[before]
        if not 0 < span < STALE_NS or stamp_ns - newest > STALE_NS:
            return last
        motion = se3.log(se3.inverse(self._poses[before].T_kept_body) @ last)
        return last @ se3.exp(motion * ((stamp_ns - newest) / span))

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp; None without a pose."""
        return self._stamps[-1] if self._stamps else None

    def at(self, stamp_ns: int) -> TrackedPose | Wait | Miss:
        """Return the TrackedPose interpolated at a stamp, WAIT while a later pose may still arrive,
        or a Miss.
        """
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


def _apart(a: Floats, b: Floats) -> tuple[float, float]:
    """Return the distance (metres, radians) between two poses (4, 4)."""
    between = se3.inverse(a) @ b
    return float(np.linalg.norm(between[:3, 3])), float(se3.rotation_angle(between))


def motion_covariance(
    earlier: TrackedPose, later: TrackedPose, T_body_cam: Floats
) -> Floats | None:
    """Return the covariance (6, 6) of the camera's motion between two poses, in the later camera's
    frame, x y z rotX rotY rotZ; None if the front end's covariances are not usable.

    Odometry reports the covariance of the pose in fixed axes, which grows with the motion. The
    growth is S_later - F S_earlier F^T, where F is the first-order effect of the earlier pose's
    error on the later pose. A constant or shrinking covariance carries no information.
    """
    bridged = later.bridged - earlier.bridged
    turn = later.T_kept_body @ T_body_cam
    lever = later.T_kept_body[:3, :3] @ T_body_cam[:3, 3]
    to_camera = np.kron(np.eye(2), turn[:3, :3].T) @ _carry(lever)
    if bridged.any():
        return to_camera @ np.diag(bridged) @ to_camera.T  # isotropic, of the body
    if earlier.covariance is None or later.covariance is None:
        return None
    carried = _carry(later.T_kept_body[:3, 3] - earlier.T_kept_body[:3, 3])
    growth = later.covariance - carried @ earlier.covariance @ carried.T
    covariance = to_camera @ growth @ to_camera.T
    covariance = 0.5 * (covariance + covariance.T)
    if not np.all(np.isfinite(covariance)):
        return None
    values = np.linalg.eigvalsh(covariance)
    # Filters may hold axes at zero or at a huge constant, which would mean perfect knowledge or
    # none at all.
    return covariance if values[0] > 1e-12 and values[-1] < 100.0 else None


def _carry(offset: Floats) -> Floats:
    """Return the (6, 6) matrix that maps errors of a pose, in fixed axes, to those of a point
    rigidly attached at `offset` (3,), metres.
    """
    x, y, z = offset
    carried = np.eye(6)
    carried[:3, 3:] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return carried
