"""Which steps of a front end's odometry are to be believed: those its images confirm, those they
contradict, and those that say nothing.

Front ends lose track for a moment and go on as if nothing had happened: they stand still while the
camera moves, or jump. Matches between the two keyframes of a step measure the same motion again,
independently: a chi-square test of the difference tells whether both can be.
"""

from dataclasses import dataclass, replace

import numpy as np

# quantiles of chi-squared; scipy.stats takes over a second to import
from scipy.special import chdtri

from vggt3_ros.geometry import se3

STILL = 1e-3  # metres, radians: no front end tells a smaller step from none
# whatever is claimed: the best odometry drifts by half a percent of its way,
FLOOR_M, FLOOR_PER_METRE = 0.001, 0.005
# and keypoints good to a fifth of a pixel leave as much of a turn
FLOOR_RAD, FLOOR_PER_RADIAN = 0.0005, 0.005
SAME = 1e-4  # metres, radians: a step that nothing has changed
UNKNOWN = 100.0  # a variance that says that nothing is known: two runs were joined here
AGREES = chdtri(6, 0.01)
CONTRADICTS = chdtri(6, 0.0001)  # by chance once in ten thousand steps
USUAL = chdtri(6, 0.5)
# standard deviations of a camera's motion between two keyframes of which nothing is known
LOST_M, LOST_RAD = 0.5, 0.4


@dataclass(frozen=True, eq=False)
class Steps:
    """noise (N, 6, 6): covariance of the step to each keyframe, in that keyframe's frame; unseen
    (N, 6, 6): of what the camera may have moved besides where the step is not believed.

    Masks (N,) over the same steps. joined: no step of odometry at all, another run begins.
    confirmed: matches between its two keyframes agree with it, and are precise enough to tell.
    doubted: they contradict it, or it says that the camera stood still and they do not say so.
    seen: matches that hold span it, whatever odometry says. motions: {index: (4, 4) T_before_here
    that the matches of its two keyframes measured}.
    """

    noise: np.ndarray
    unseen: np.ndarray
    joined: np.ndarray
    confirmed: np.ndarray
    doubted: np.ndarray
    seen: np.ndarray
    motions: dict

    @property
    def open(self):
        """Mask of the steps that nothing confirms."""
        return ~self.confirmed & ~self.joined

    @property
    def dark(self):
        """Mask of the steps in which nothing was seen: the camera may have moved as in
        `unseen`.
        """
        return ~self.seen & ~self.joined

    def widened(self, also):
        """(N, 6, 6) the noise, wide where the step is doubted or in the mask `also`."""
        return (
            self.noise
            + np.where((self.doubted | also) & ~self.joined, 1.0, 0.0)[:, None, None] * self.unseen
        )

    def within(self, window):
        """The Steps of the keyframes in a slice, the first of which is reached from nowhere."""
        arrays = self.noise, self.unseen, self.joined, self.confirmed, self.doubted, self.seen
        parts = [array[window].copy() for array in arrays]
        parts[2][0], parts[4][0] = True, False
        return Steps(
            *parts,
            {
                k - window.start: motion
                for k, motion in self.motions.items()
                if window.start < k < window.stop
            },
        )

    def off(self, T_odom_cam, T_map_cam):
        """(N, 4, 4) what each step is off by, and its squared distance (N,) in the front end's own
        noise; 0 where runs are joined.
        """
        by_odometry, solved = (se3.inverse(T[:-1]) @ T[1:] for T in (T_odom_cam, T_map_cam))
        difference = np.concatenate([np.eye(4)[None], se3.inverse(by_odometry) @ solved])
        difference[self.joined] = np.eye(4)
        twist = se3.log(difference)
        return difference, np.einsum(
            "ni,ni->n", twist, np.linalg.solve(self.noise, twist[..., None])[..., 0]
        )

    def bound(self, distance):
        """Squared distance beyond which a step is broken, given those of all (N,): the chi-square
        bound, wider for a front end that is worse than its noise says in every step (the Birge
        ratio, from the median).
        """
        return CONTRADICTS * max(
            1.0, np.median(distance[~self.joined]) / USUAL if (~self.joined).any() else 1.0
        )

    def seen_from(self, T_odom_cam, T_map_cam, edges):
        """The same after poses were found from Edges: a step that one of these spans is seen, and
        if the poses agree with it, not doubted.
        """
        spanned = np.zeros(len(self.noise), bool)
        for edge in edges:
            spanned[min(edge.source, edge.target) + 1 : max(edge.source, edge.target) + 1] = True
        agrees = spanned & (self.off(T_odom_cam, T_map_cam)[1] < CONTRADICTS)
        return replace(self, doubted=self.doubted & ~agrees, seen=self.seen | spanned)


def odometry_noise(poses, config):
    """(N, 6, 6) covariance of the step to each keyframe: the front end's, else in proportion to
    the step's length and turn. Never less than a front end can know.
    """
    steps = se3.inverse(poses.T_odom_cam[:-1]) @ poses.T_odom_cam[1:]
    metres = np.linalg.norm(steps[:, :3, 3], axis=1)
    radians = se3.rotation_angle(steps) if len(steps) else np.zeros(0)
    out = np.tile(np.eye(6), (len(poses), 1, 1))
    for i, given in enumerate(poses.covariances):
        if given is not None:
            length, turn = (metres[i - 1], radians[i - 1]) if i else (0.0, 0.0)
            least = np.square(
                [FLOOR_M + FLOOR_PER_METRE * length] * 3
                + [FLOOR_RAD + FLOOR_PER_RADIAN * turn] * 3
            )
            out[i] = given + np.diag(np.maximum(0, least - np.diag(given)))
        elif i:
            translation = (
                config.odometry_translation_noise + config.odometry_noise_per_metre * metres[i - 1]
            )
            rotation = (
                config.odometry_rotation_noise + config.odometry_noise_per_radian * radians[i - 1]
            )
            out[i] = np.diag([translation**2] * 3 + [rotation**2] * 3)
    return out


def judge(T_odom_cam, noise, edges):
    """(N, 4, 4) odometry, (N, 6, 6) covariance of its steps, pose_graph.Edge measured between
    keyframes -> Steps.
    """
    count = len(T_odom_cam)
    joined = np.trace(noise, axis1=1, axis2=2) > UNKNOWN
    joined[0] = True
    confirmed, doubted, seen, motions = (
        np.zeros(count, bool),
        np.zeros(count, bool),
        np.zeros(count, bool),
        {},
    )
    typical = _typical(T_odom_cam, joined)
    still = silent(T_odom_cam) & ~joined
    for edge in edges:
        k = max(edge.source, edge.target)
        if abs(edge.source - edge.target) != 1 or joined[k]:
            continue
        motion, covariance = _as_step(edge)
        motions[k] = motion
        off = se3.log(se3.inverse(se3.inverse(T_odom_cam[k - 1]) @ T_odom_cam[k]) @ motion)
        distance, spread = mahalanobis(off, noise[k] + covariance)
        # a camera that stands, or a front end that is lost: whichever explains the matches better
        if still[k]:
            moved, wide = mahalanobis(off, typical + covariance)
            doubted[k] = distance + spread > moved + wide
        else:
            # A match that has the camera move as it never does proves nothing against odometry.
            doubted[k] = (
                distance > CONTRADICTS
                and mahalanobis(se3.log(motion), typical + covariance)[0] < CONTRADICTS
            )
        seen[k] = distance < CONTRADICTS
        # would a step of nothing have been noticed?
        tells = np.trace(np.linalg.solve(noise[k] + covariance, typical)) > AGREES
        confirmed[k] = distance < AGREES and tells and not doubted[k]
    doubted |= still & ~confirmed
    lost = np.diag(np.square([LOST_M] * 3 + [LOST_RAD] * 3))
    unseen = np.where(still[:, None, None], np.minimum(typical, lost), lost)
    return Steps(noise, unseen, joined, confirmed, doubted, seen, motions)


def silent(T_odom_cam):
    """Mask (N,) of the keyframes that stand where the one before stood, as what a lost front end
    sends does.
    """
    steps = se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:]
    still = np.zeros(len(T_odom_cam), bool)
    if len(steps):
        still[1:] = (np.linalg.norm(steps[:, :3, 3], axis=1) < STILL) & (
            se3.rotation_angle(steps) < STILL
        )
    return still


def repaired(T, T_odom_cam, motions, sessions):
    """Poses T (N, 4, 4) with steps that are as in the odometry replaced by `motions` {index:
    T_before_here}; what comes after in the same session moves along. Steps that were solved
    otherwise stay.
    """
    T = T.copy()
    for k, motion in sorted(motions.items()):
        by_odometry = se3.inverse(T_odom_cam[k - 1]) @ T_odom_cam[k]
        if np.allclose(se3.inverse(T[k - 1]) @ T[k], by_odometry, atol=SAME):
            rest = slice(k, k + int((sessions[k:] == sessions[k]).sum()))
            T[rest] = T[k - 1] @ motion @ se3.inverse(T[k]) @ T[rest]
    return T


def windows(mask, reach, joined):
    """Slices of keyframes around the runs of a mask (N,) of steps, `reach` keyframes to either
    side, none across a joined step.
    """
    out = []
    for k in np.flatnonzero(mask):
        begin = max([0, k - reach, *np.flatnonzero(joined[: k + 1])[-1:]])
        later = np.flatnonzero(joined[k + 1 :])
        end = min([len(mask), k + reach, *(k + 1 + later[:1])])
        if out and begin < out[-1].stop:
            begin = out.pop().start
        out.append(slice(int(begin), int(end)))
    return out


def _typical(T_odom_cam, joined):
    """(6, 6) covariance of the motion in a step as this camera moves: the mean square of those
    that are none of the silent.
    """
    steps = se3.log(se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:])[
        ~joined[1:] & ~silent(T_odom_cam)[1:]
    ]
    square = np.square(steps).reshape(-1, 2, 3).mean(axis=(0, 2)) if len(steps) else np.zeros(2)
    return np.diag(np.repeat(square, 3)) + 1e-12 * np.eye(6)


def _as_step(edge):
    """Edge between neighbours -> (T_before_here, covariance (6, 6) in the later keyframe's
    frame).
    """
    covariance = np.linalg.inv(edge.information)
    if edge.target > edge.source:
        return edge.T_source_target, covariance
    motion = se3.inverse(edge.T_source_target)
    carried = adjoint(edge.T_source_target)
    return motion, carried @ covariance @ carried.T


def adjoint(T):
    """(6, 6): a small motion in T's source frame as one in its target frame, translation first."""
    out = np.zeros((6, 6))
    x, y, z = T[:3, 3]
    out[:3, :3] = out[3:, 3:] = T[:3, :3]
    out[:3, 3:] = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ T[:3, :3]
    return out


def mahalanobis(off, covariance):
    """(squared distance, log determinant): their sum is -2 log likelihood."""
    return float(off @ np.linalg.solve(covariance, off)), float(np.linalg.slogdet(covariance)[1])
