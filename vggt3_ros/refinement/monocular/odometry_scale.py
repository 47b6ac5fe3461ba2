"""Estimate the metric scale of a map from the odometry, whose steps may share a bias."""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3

KERNEL = 2.5  # Huber, in robust standard deviations
# prior deviation of the constant error of the steps, in standard deviations of one step: as large
# as the error that varies
BIAS = 1.0
ROUNDS = 20
LEAST_SPANS = 5
# length of path over which scale is read: over single steps the map's own noise makes motions look
# longer, and so the scale smaller
SPAN_M = 1.0
# standard deviation of a step's translation: m, m per m of its length, m per rad of its rotation
STILL_M, PER_METRE, PER_RADIAN = 0.01, 0.1, 0.05
NO_STEP_M = 10.0  # a deviation above which nothing is known: two runs were joined here


@dataclass(frozen=True, eq=False)
class Scale:
    """metres: per unit of the map. sigma: relative standard deviation. by_pose (N, 6): derivative
    of the relative scale by small motions of the map's poses, each in its own axes, x y z rotX
    rotY rotZ; zero for poses that were not used.
    """

    metres: float
    sigma: float
    by_pose: np.ndarray


def motion_noise(T_odom_cam: np.ndarray, noise: np.ndarray, guessed: np.ndarray) -> np.ndarray:
    """Return the covariances `noise` (N, 6, 6) of the odometry's steps with another variance of
    translation where the front end gave none.

    T_odom_cam (N, 4, 4): odometry. guessed (N,): mask of the covariances that the front end did
    not give. Their translation gets a variance by the length and the rotation of the step (Thrun
    et al., Probabilistic Robotics, 5.4).

    Elsewhere the translation counts as almost exact while the camera turns on the spot. Here the
    slow motion that the camera makes meanwhile would then be taken for a bias of all steps, and
    the bias for scale.
    """
    steps = se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:]
    deviation = (
        STILL_M
        + PER_METRE * np.linalg.norm(steps[:, :3, 3], axis=1)
        + PER_RADIAN * se3.rotation_angle(steps)
    )
    noise = noise.copy()
    chosen = np.flatnonzero(guessed)
    chosen = chosen[chosen > 0]
    noise[chosen, :3, :3] = np.square(deviation[chosen - 1])[:, None, None] * np.eye(3)
    return noise


def odometry_scale(
    T_odom_cam: np.ndarray, noise: np.ndarray, T_map_cam: np.ndarray
) -> Scale | None:
    """Estimate the Scale of a map from poses (N, 4, 4) by the odometry and in the map, and the
    covariance (N, 6, 6) of each odometry step. Return None without enough motion.

    A motion of the odometry over SPAN_M of path (at most a fifth of the whole path) is modelled as
    scale * true motion + the sum of its steps' bias + noise. The bias, constant in the camera's
    axes, is the error that a front end makes in every step alike (for example slow translation of
    a camera that turns on the spot). Without it this error would be taken for scale, since cameras
    mostly move the same way. The solution is least squares with a Huber kernel; noise and bias are
    in proportion to the given covariances.

    Measured with the truth as the map, on pieces of 25 keyframes by real front ends. BIAS was
    chosen between 0.25 and 2 on kitchen, where 0.5 leaves an error of 3.1, 1 leaves 2.3 and 2
    leaves 2.1 % (RMS); on EuRoC V1_01 these leave 2.2, 1.5 and 1.3 %. Over the whole run the error
    of scale is 0.4 % on kitchen, 0.9 % on V1_01, and 1.6 % on fr1_xyz with its three frozen steps.
    The errors were 1.4 times sigma on the pieces of either (RMS), and 0.6 to 0.9 times on
    simulated drifts. With single steps the scale is 9 % too small on kitchen.
    """
    deviation = np.sqrt(np.trace(noise[1:, :3, :3], axis1=1, axis2=2) / 3)
    spans = _spans(T_odom_cam, deviation)
    if len(spans) < LEAST_SPANS:
        return None
    first, last = np.array(spans).T
    spread = np.array([np.sqrt(np.square(deviation[i:j]).sum()) for i, j in spans])[:, None]
    given, true = (_motions(T, first, last) / spread for T in (T_odom_cam, T_map_cam))
    if np.linalg.norm(true * spread, axis=1).max() < 1e-9:
        return None
    bias = (
        np.array([_summed_axes(T_map_cam, deviation, i, j) for i, j in spans]) / spread[:, :, None]
    )
    unknowns = np.concatenate([true[:, :, None], bias], axis=2)  # (spans, 3, 4)
    # the number of spans in which each step is counted
    overlap = np.subtract(last, first).sum() / (last.max() - first.min())
    weights, prior = np.ones(len(spans)), np.diag([0, 1, 1, 1]) / BIAS**2 * overlap
    for _ in range(ROUNDS):
        weighted = weights[:, None, None] * unknowns
        normal = np.einsum("nij,nik->jk", weighted, unknowns) + prior
        solution = np.linalg.solve(normal, np.einsum("nij,ni->j", weighted, given))
        error = np.linalg.norm(given - unknowns @ solution, axis=1)
        typical = max(np.median(error) / 1.54, 1e-9)  # the median length of a 3-vector is 1.54
        weights = 1 / np.maximum(1, error / (KERNEL * typical))
    metres = float(solution[0])
    if metres <= 0:
        return None
    # Spans share steps, and each step counts only once. So the estimate is less certain than that
    # many independent spans would make it.
    sigma = typical * np.sqrt(overlap * np.linalg.inv(normal)[0, 0]) / metres
    # (spans, 3): derivative of the relative scale by small changes of the map's motions
    by_span = (weighted @ np.linalg.inv(normal)[0]) / spread
    return Scale(metres, float(sigma), _by_pose(T_map_cam, first, last, by_span))


def _by_pose(
    T_map_cam: np.ndarray, first: np.ndarray, last: np.ndarray, by_span: np.ndarray
) -> np.ndarray:
    """Convert derivatives by the motions from the first to the last camera of each span, (spans,
    3) in the axes of the first, to derivatives by the poses, (N, 6).
    """
    out = np.zeros((len(T_map_cam), 6))
    motion = _motions(T_map_cam, first, last)
    turned = np.einsum(
        "nji,njk,nk->ni", T_map_cam[last, :3, :3], T_map_cam[first, :3, :3], by_span
    )
    np.add.at(out[:, :3], last, turned)
    np.add.at(out[:, :3], first, -by_span)
    np.add.at(out[:, 3:], first, np.cross(by_span, motion))
    return out


def _spans(T_odom_cam: np.ndarray, deviation: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs (first, last) of keyframes that are SPAN_M, or a fifth of the path, apart along
    the path. No span contains a step of which nothing is known.
    """
    steps = np.linalg.norm(np.diff(T_odom_cam[:, :3, 3], axis=0), axis=1)
    known = deviation < NO_STEP_M
    path = np.concatenate([[0], np.cumsum(np.where(known, steps, 0))])
    ends = np.searchsorted(path, path[:-1] + min(SPAN_M, path[-1] / 5))
    ends = np.maximum(ends, np.arange(1, len(path)))
    return [(i, int(j)) for i, j in enumerate(ends) if j < len(path) and known[i:j].all()]


def _motions(T: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return the translations (spans, 3) from the first to the last cameras, in the axes of the
    first.
    """
    translations: np.ndarray = (se3.inverse(T[first]) @ T[last])[:, :3, 3]
    return translations


def _summed_axes(T: np.ndarray, deviation: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return the sum (3, 3), in the axes of the first camera, of a bias of one deviation along
    each axis of the cameras.
    """
    axes = T[first + 1 : last + 1, :3, :3] * deviation[first:last, None, None]
    summed: np.ndarray = T[first, :3, :3].T @ axes.sum(0)
    return summed
