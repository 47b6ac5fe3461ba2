"""How long the odometry's metre is against a map whose scale is free: with a bias of the odometry,
and along the way.
"""

from dataclasses import dataclass

import numpy as np

from vggt3_ros.geometry import se3

KERNEL = 2.5  # Huber, in robust standard deviations
# a priori deviation of the constant error of the steps, in standard deviations of one step: as
# large as what changes
BIAS = 1.0
ROUNDS = 20
LEAST_SPANS = 5
# of path over which scale is read: over single steps the map's own noise makes motion look longer,
# and scale smaller
SPAN_M = 1.0
# deviation of a step: of none at all, and what its length and its turn add
STILL_M, PER_METRE, PER_RADIAN = 0.01, 0.1, 0.05
NO_STEP_M = 10.0  # a deviation that says that nothing is known: two runs were joined here


@dataclass(frozen=True, eq=False)
class Scale:
    """metres per unit of the map; sigma: its standard deviation, relative. by_pose (N, 6): what
    relative scale is read from small motions of the map's poses, each in its own axes, x y z rotX
    rotY rotZ; zeros where nothing was read.
    """

    metres: float
    sigma: float
    by_pose: np.ndarray


def motion_noise(T_odom_cam, noise, guessed):
    """(N, 4, 4) odometry, (N, 6, 6) covariances of its steps, mask (N,) of those that the front
    end did not give -> the same with translation's variance for these from how far the step goes
    and turns (Thrun et al., Probabilistic Robotics, 5.4).

    Elsewhere translation counts as all but exact where the camera turns on the spot. Here what it
    creeps meanwhile would then be taken for a bias of all steps, and the bias for scale.
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


def odometry_scale(T_odom_cam, noise, T_map_cam):
    """Poses (N, 4, 4) by the odometry and by a map, (N, 6, 6) covariance of each odometry step ->
    Scale, or None without enough motion.

    A motion of the odometry over SPAN_M of path (at most a fifth of all) is modelled as scale *
    true motion + the sum of its steps' bias + noise. The bias, constant in the camera's axes, is
    what a front end gets wrong in every step alike (a camera that creeps while it turns on the
    spot); left out, it would be taken for scale, since cameras mostly move the same way. Least
    squares with a Huber kernel; both noise and bias are in proportion to the given covariances.

    Measured with the truth as the map, on pieces of 25 keyframes by real front ends. BIAS was
    chosen between 0.25 and 2 on kitchen, where 0.5 leaves 3.1, 1 leaves 2.3 and 2 leaves 2.1 %
    (RMS); on EuRoC V1_01 these leave 2.2, 1.5 and 1.3 %. Of the whole run of kitchen scale is 0.4
    % off, of V1_01's 0.9 %, of that of fr1_xyz with its three frozen steps 1.6 %; errors were 1.4
    times sigma on either's pieces (RMS), 0.6 to 0.9 times on simulated drifts. Single steps say 9
    % too little on kitchen.
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
    # in so many spans each step is counted
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
    # The steps that spans share are counted once: so much less is known than as many spans would
    # say.
    sigma = typical * np.sqrt(overlap * np.linalg.inv(normal)[0, 0]) / metres
    # (spans, 3): of small changes of the map's motions
    by_span = (weighted @ np.linalg.inv(normal)[0]) / spread
    return Scale(metres, float(sigma), _by_pose(T_map_cam, first, last, by_span))


def _by_pose(T_map_cam, first, last, by_span):
    """What changes of the motions from first to last camera count, (spans, 3) in the first one's
    axes, as changes of poses: (N, 6).
    """
    out = np.zeros((len(T_map_cam), 6))
    motion = _motions(T_map_cam, first, last)
    turned = np.einsum(
        "nji,njk,nk->ni", T_map_cam[last, :3, :3], T_map_cam[first, :3, :3], by_span
    )
    np.add.at(out, (last, slice(0, 3)), turned)
    np.add.at(out, (first, slice(0, 3)), -by_span)
    np.add.at(out, (first, slice(3, 6)), np.cross(by_span, motion))
    return out


def _spans(T_odom_cam, deviation):
    """[(first, last)] keyframes so far apart along the path; none spans a step that nothing is
    known of.
    """
    steps = np.linalg.norm(np.diff(T_odom_cam[:, :3, 3], axis=0), axis=1)
    known = deviation < NO_STEP_M
    path = np.concatenate([[0], np.cumsum(np.where(known, steps, 0))])
    ends = np.searchsorted(path, path[:-1] + min(SPAN_M, path[-1] / 5))
    ends = np.maximum(ends, np.arange(1, len(path)))
    return [(i, int(j)) for i, j in enumerate(ends) if j < len(path) and known[i:j].all()]


def _motions(T, first, last):
    """(spans, 3) translation from the first to the last camera, in the axes of the first."""
    return (se3.inverse(T[first]) @ T[last])[:, :3, 3]


def _summed_axes(T, deviation, first, last):
    """(3, 3) what a bias of one deviation along each axis of the cameras adds up to, in the axes
    of the first.
    """
    return T[first, :3, :3].T @ (
        T[first + 1 : last + 1, :3, :3] * deviation[first:last, None, None]
    ).sum(0)
