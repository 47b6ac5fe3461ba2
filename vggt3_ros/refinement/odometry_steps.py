"""Decide which steps of a front end's odometry to believe: images confirm some, contradict some,
and say nothing about others.

A front end may lose track for a moment and continue as if nothing had happened: it stands still
while the camera moves, or it jumps. Matches between the two keyframes of a step measure the same
motion independently; a chi-square test of the difference tells whether both can be right.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

# quantiles of chi-squared; scipy.stats takes over a second to import
from scipy.special import chdtri

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.store.stored_poses import StoredPoses

# Not imported at run time: pose_graph loads torch, which the ROS node, a user of this module, must
# not load.
if TYPE_CHECKING:
    from vggt3_ros.refinement.pose_graph import Edge

STILL = 1e-3  # metres, radians: no front end can tell a smaller step from none
# lower bounds on the noise, whatever is claimed: the best odometry drifts by half a percent,
FLOOR_M, FLOOR_PER_METRE = 0.001, 0.005
# and keypoints that are accurate to a fifth of a pixel leave this error of rotation
FLOOR_RAD, FLOOR_PER_RADIAN = 0.0005, 0.005
SAME = 1e-4  # metres, radians: tolerance within which a step is still that of the odometry
UNKNOWN = 100.0  # trace of a covariance above which nothing is known: two runs were joined here
AGREES = chdtri(6, 0.01)
CONTRADICTS = chdtri(6, 0.0001)  # exceeded by chance once in ten thousand steps
USUAL = chdtri(6, 0.5)
# standard deviations of a camera's motion between two keyframes when nothing is known about it
LOST_M, LOST_RAD = 0.5, 0.4


@dataclass(frozen=True, eq=False)
class Steps:
    """The odometry steps, each from the keyframe before to the keyframe of its index.

    noise (N, 6, 6): covariance of each step, in the later keyframe's frame. unseen (N, 6, 6):
    covariance of the further motion that the camera may have made where the step is not believed.

    Masks (N,). joined: no odometry step at all; another run begins here. confirmed: matches
    between the two keyframes agree with the step, and are accurate enough to tell. doubted:
    matches contradict it, or it says that the camera stood still and matches do not confirm that.
    seen: consistent matches span it, whatever the odometry says. motions: {index: (4, 4)
    T_before_here measured by matches between the two keyframes}.
    """

    noise: np.ndarray
    unseen: np.ndarray
    joined: np.ndarray
    confirmed: np.ndarray
    doubted: np.ndarray
    seen: np.ndarray
    motions: Mapping[int, np.ndarray]

    @property
    def open(self) -> np.ndarray:
        """Mask of the steps that nothing confirms."""
        mask: np.ndarray = ~self.confirmed & ~self.joined
        return mask

    @property
    def dark(self) -> np.ndarray:
        """Mask of the steps in which the images saw nothing: the camera may have moved as
        `unseen` says.
        """
        mask: np.ndarray = ~self.seen & ~self.joined
        return mask

    def widened(self, also: np.ndarray) -> np.ndarray:
        """Return the noise (N, 6, 6), increased by `unseen` where the step is doubted or in the
        mask `also` (N,).
        """
        wide = np.where((self.doubted | also) & ~self.joined, 1.0, 0.0)
        noise: np.ndarray = self.noise + wide[:, None, None] * self.unseen
        return noise

    def within(self, window: slice) -> "Steps":
        """Return the Steps of the keyframes in a slice. No step leads to the first of them."""
        joined, doubted = self.joined[window].copy(), self.doubted[window].copy()
        joined[0], doubted[0] = True, False
        return Steps(
            noise=self.noise[window],
            unseen=self.unseen[window],
            joined=joined,
            confirmed=self.confirmed[window],
            doubted=doubted,
            seen=self.seen[window],
            motions={
                k - window.start: motion
                for k, motion in self.motions.items()
                if window.start < k < window.stop
            },
        )

    def off(self, T_odom_cam: np.ndarray, T_map_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the error of each step (N, 4, 4), given solved poses T_map_cam (N, 4, 4), and its
        squared Mahalanobis distance (N,) in the front end's own noise; no error where runs are
        joined.
        """
        by_odometry, solved = (se3.inverse(T[:-1]) @ T[1:] for T in (T_odom_cam, T_map_cam))
        difference = np.concatenate([np.eye(4)[None], se3.inverse(by_odometry) @ solved])
        difference[self.joined] = np.eye(4)
        twist = se3.log(difference)
        return difference, np.einsum(
            "ni,ni->n", twist, np.linalg.solve(self.noise, twist[..., None])[..., 0]
        )

    def bound(self, distance: np.ndarray) -> float:
        """Return the squared distance beyond which a step is broken, given those of all (N,).

        It is the chi-square bound, scaled for a front end that is less accurate in every step than
        its noise says (the Birge ratio, from the median).
        """
        usual = np.median(distance[~self.joined]) / USUAL if (~self.joined).any() else 1.0
        return float(CONTRADICTS * max(1.0, usual))

    def seen_from(
        self, T_odom_cam: np.ndarray, T_map_cam: np.ndarray, edges: "Iterable[Edge]"
    ) -> "Steps":
        """Return the Steps after poses T_map_cam were found from edges: a step that an edge spans
        is seen, and not doubted if the poses agree with it.
        """
        spanned = np.zeros(len(self.noise), bool)
        for edge in edges:
            spanned[min(edge.source, edge.target) + 1 : max(edge.source, edge.target) + 1] = True
        agrees = spanned & (self.off(T_odom_cam, T_map_cam)[1] < CONTRADICTS)
        return replace(self, doubted=self.doubted & ~agrees, seen=self.seen | spanned)


def odometry_noise(poses: StoredPoses, config: PoseGraphConfig) -> np.ndarray:
    """Return the covariance (N, 6, 6) of the step to each keyframe: the front end's, else one in
    proportion to the step's length and rotation. It is never less than a front end can achieve.
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


def judge(T_odom_cam: np.ndarray, noise: np.ndarray, edges: "Iterable[Edge]") -> Steps:
    """Judge the odometry (N, 4, 4), with the covariances `noise` (N, 6, 6) of its steps, by edges
    measured between neighbouring keyframes; other edges are ignored.
    """
    count = len(T_odom_cam)
    joined = np.trace(noise, axis1=1, axis2=2) > UNKNOWN
    joined[0] = True
    confirmed, doubted, seen = (np.zeros(count, bool) for _ in range(3))
    motions: dict[int, np.ndarray] = {}
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
        # The camera stands still or the front end is lost, whichever explains the matches better.
        if still[k]:
            moved, wide = mahalanobis(off, typical + covariance)
            doubted[k] = distance + spread > moved + wide
        else:
            # Matches that imply an implausible motion prove nothing against the odometry.
            doubted[k] = (
                distance > CONTRADICTS
                and mahalanobis(se3.log(motion), typical + covariance)[0] < CONTRADICTS
            )
        seen[k] = distance < CONTRADICTS
        # The matches confirm only if they would have told the motion from none.
        tells = np.trace(np.linalg.solve(noise[k] + covariance, typical)) > AGREES
        confirmed[k] = distance < AGREES and tells and not doubted[k]
    doubted |= still & ~confirmed
    lost = np.diag(np.square([LOST_M] * 3 + [LOST_RAD] * 3))
    unseen = np.where(still[:, None, None], np.minimum(typical, lost), lost)
    return Steps(noise, unseen, joined, confirmed, doubted, seen, motions)


def silent(T_odom_cam: np.ndarray) -> np.ndarray:
    """Return the mask (N,) of keyframes with the pose of the one before, as a lost front end sends
    them.
    """
    steps = se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:]
    still = np.zeros(len(T_odom_cam), bool)
    if len(steps):
        still[1:] = (np.linalg.norm(steps[:, :3, 3], axis=1) < STILL) & (
            se3.rotation_angle(steps) < STILL
        )
    return still


def repaired(
    T: np.ndarray, T_odom_cam: np.ndarray, motions: Mapping[int, np.ndarray], sessions: np.ndarray
) -> np.ndarray:
    """Replace steps of poses T (N, 4, 4) by `motions` {index: T_before_here}, and move what follows
    in the same session along. Steps that differ from the odometry have been solved already and
    stay.
    """
    T = T.copy()
    for k, motion in sorted(motions.items()):
        by_odometry = se3.inverse(T_odom_cam[k - 1]) @ T_odom_cam[k]
        if np.allclose(se3.inverse(T[k - 1]) @ T[k], by_odometry, atol=SAME):
            rest = slice(k, k + int((sessions[k:] == sessions[k]).sum()))
            T[rest] = T[k - 1] @ motion @ se3.inverse(T[k]) @ T[rest]
    return T


def windows(mask: np.ndarray, reach: int, joined: np.ndarray) -> list[slice]:
    """Return slices of keyframes around the runs of a mask (N,) of steps, `reach` keyframes to
    either side; none contains a joined step, except at its start.
    """
    out: list[slice] = []
    for k in np.flatnonzero(mask):
        begin = max([0, k - reach, *np.flatnonzero(joined[: k + 1])[-1:]])
        later = np.flatnonzero(joined[k + 1 :])
        end = min([len(mask), k + reach, *(k + 1 + later[:1])])
        if out and begin < out[-1].stop:
            begin = out.pop().start
        out.append(slice(int(begin), int(end)))
    return out


def _typical(T_odom_cam: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """Return the covariance (6, 6) of this camera's usual motion in a step: the mean square over
    the steps that are not silent.
    """
    steps = se3.log(se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:])[
        ~joined[1:] & ~silent(T_odom_cam)[1:]
    ]
    square = np.square(steps).reshape(-1, 2, 3).mean(axis=(0, 2)) if len(steps) else np.zeros(2)
    return np.diag(np.repeat(square, 3)) + 1e-12 * np.eye(6)


def _as_step(edge: "Edge") -> tuple[np.ndarray, np.ndarray]:
    """Convert an Edge between neighbours to (T_before_here, covariance (6, 6) in the later
    keyframe's frame).
    """
    covariance = np.linalg.inv(edge.information)
    if edge.target > edge.source:
        return edge.T_source_target, covariance
    motion = se3.inverse(edge.T_source_target)
    carried = se3.adjoint(edge.T_source_target)
    return motion, carried @ covariance @ carried.T


def mahalanobis(off: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """Return (squared distance, log determinant); their sum is -2 log likelihood + constant."""
    return float(off @ np.linalg.solve(covariance, off)), float(np.linalg.slogdet(covariance)[1])
