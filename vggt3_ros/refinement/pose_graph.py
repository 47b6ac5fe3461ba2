"""Odometry and verified loops -> the most likely keyframe poses (GTSAM), wrong loops left out.

Each loop carries a Cauchy kernel. After the first solution, loops that disagree with it by more
than a bound are dropped and the graph is solved again, so that a wrong closure has no pull left at
all. Those that fit once others are gone come back.
"""

from dataclasses import dataclass, replace

import gtsam
import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.marginals import all_marginals
from vggt3_ros.refinement.robust_kernels import cauchy_gain

TO_GTSAM = [3, 4, 5, 0, 1, 2]  # GTSAM orders rotation first; ours (and ROS) translation first
BACK = 0.5  # of the bound: a dropped loop that the solution agrees with so well is taken back
# metres, radians: the keyframe that gives the map its frame stays where the odometry put it
ANCHOR_SIGMA = 1e-4


@dataclass(frozen=True, eq=False)
class Edge:
    """A measured motion T_source_target between keyframes by index; information (6, 6) x y z rotX
    rotY rotZ in target's frame.
    """

    source: int
    target: int
    T_source_target: np.ndarray
    information: np.ndarray


@dataclass(frozen=True, eq=False)
class Solution:
    """T_map_cam (N, 4, 4); covariances (N, 6, 6) in the map frame, ROS order; kept: mask over the
    loops; residual_m, residual_rad (L,): what the solution disagrees with each loop by.
    """

    T_map_cam: np.ndarray
    covariances: np.ndarray
    kept: np.ndarray
    residual_m: np.ndarray
    residual_rad: np.ndarray


def solve(
    T_odom_cam,
    odometry_noise,
    loops,
    config,
    initial=None,
    covariances=True,
    progress=None,
    anchor=0,
    kept=None,
):
    """(N, 4, 4) odometry, (N, 6, 6) covariance of each step in the later camera's frame, list of
    Edge -> Solution.

    progress(fraction) is called between covariances; what it raises ends the solution. anchor:
    index of the keyframe that stays. kept: mask (L,) of the loops to begin with, all by default.
    """
    initial = T_odom_cam if initial is None else initial
    kept = np.ones(len(loops), bool) if kept is None else kept
    for remaining in reversed(range(config.rejection_rounds + 1)):
        graph = build(
            T_odom_cam, odometry_noise, [e for e, k in zip(loops, kept) if k], config, anchor
        )
        values = _optimize(graph, initial)
        initial = np.array([values.atPose3(i).matrix() for i in range(len(T_odom_cam))])
        residual_m, residual_rad = _residuals(initial, loops)
        severity = np.maximum(
            residual_m / config.loop_residual_translation,
            residual_rad / config.loop_residual_rotation,
        )
        bad, back = kept & (severity > 1), ~kept & (severity < BACK)
        if not remaining or not (bad.any() or back.any()):
            break
        # The worst tenth at a time: one wrong loop can make its right neighbours look bad. All
        # that are left in the last round.
        limit = (
            max(1.0, np.quantile(severity[bad], 0.9) * 0.5) if bad.any() and remaining > 1 else 1.0
        )
        kept = kept & ~(bad & (severity >= limit)) | (back & (remaining > 1))
    covariance = np.zeros((len(initial), 6, 6))
    if covariances:
        known = as_known([e for e, k in zip(loops, kept) if k], initial, config.loop_kernel)
        graph = build(T_odom_cam, odometry_noise, known, config, anchor, loop_kernels=False)
        covariance = _marginals(graph, values, initial, progress)
    return Solution(se3.orthonormalize(initial), covariance, kept, residual_m, residual_rad)


def as_known(loops, T_map_cam, kernel):
    """Edges with the information that they have in the solution T_map_cam (N, 4, 4) made with a
    Cauchy kernel on them, for covariances.

    A kernel weighs down right measurements too: the inverse of the weighted information says half
    as much again as what the solution scatters by (see robust_kernels.py). Weights are brought up
    to that, though never beyond the whole of a measurement.
    """
    gain, out = cauchy_gain(kernel), []
    for edge in loops:
        off = se3.log(
            se3.inverse(edge.T_source_target)
            @ se3.inverse(T_map_cam[edge.source])
            @ T_map_cam[edge.target]
        )
        weight = 1 / (1 + off @ edge.information @ off / kernel**2)
        out.append(replace(edge, information=min(1.0, gain * weight) * edge.information))
    return out


def build(T_odom_cam, odometry_noise, loops, config, anchor=0, loop_kernels=True):
    """The factor graph of poses 0..N-1: that of `anchor` fixed, odometry steps and, unless
    loop_kernels says otherwise, Edges with robust kernels.
    """
    graph = gtsam.NonlinearFactorGraph()
    graph.add(
        gtsam.PriorFactorPose3(
            anchor,
            gtsam.Pose3(T_odom_cam[anchor]),
            gtsam.noiseModel.Isotropic.Sigma(6, ANCHOR_SIGMA),
        )
    )
    steps = se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:]
    for i, step in enumerate(steps):
        covariance = odometry_noise[i + 1][np.ix_(TO_GTSAM, TO_GTSAM)]
        noise = gtsam.noiseModel.Gaussian.Covariance(covariance)
        robust = gtsam.noiseModel.Robust.Create(
            gtsam.noiseModel.mEstimator.Huber.Create(config.odometry_kernel), noise
        )
        graph.add(
            gtsam.BetweenFactorPose3(i, i + 1, gtsam.Pose3(se3.orthonormalize(step)), robust)
        )
    for edge in loops:
        information = edge.information[np.ix_(TO_GTSAM, TO_GTSAM)]
        noise = gtsam.noiseModel.Gaussian.Information(information)
        if loop_kernels:
            noise = gtsam.noiseModel.Robust.Create(
                gtsam.noiseModel.mEstimator.Cauchy.Create(config.loop_kernel), noise
            )
        graph.add(
            gtsam.BetweenFactorPose3(
                edge.source, edge.target, gtsam.Pose3(edge.T_source_target), noise
            )
        )
    return graph


def as_values(T_map_cam):
    """(N, 4, 4) poses as gtsam.Values."""
    values = gtsam.Values()
    for i, pose in enumerate(se3.orthonormalize(T_map_cam)):
        values.insert(i, gtsam.Pose3(pose))
    return values


def _optimize(graph, initial):
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(100)
    return gtsam.LevenbergMarquardtOptimizer(graph, as_values(initial), parameters).optimize()


def _residuals(T_map_cam, loops):
    if not loops:
        return np.zeros(0), np.zeros(0)
    source, target = np.array([e.source for e in loops]), np.array([e.target for e in loops])
    measured = np.array([e.T_source_target for e in loops])
    error = se3.inverse(measured) @ se3.inverse(T_map_cam[source]) @ T_map_cam[target]
    return np.linalg.norm(error[:, :3, 3], axis=1), se3.rotation_angle(error)


def _marginals(graph, values, T_map_cam, progress):
    return in_map_axes(all_marginals(graph, values, progress), T_map_cam)


def in_map_axes(covariances, T_map_cam):
    """(N, 6, 6) as GTSAM gives them, in the camera's axes, rotation first -> as ROS wants them, in
    the map's, translation first.
    """
    covariances = covariances[:, TO_GTSAM][:, :, TO_GTSAM]
    turn = np.zeros_like(covariances)
    turn[:, :3, :3] = turn[:, 3:, 3:] = T_map_cam[:, :3, :3]
    return turn @ covariances @ turn.swapaxes(1, 2)
