"""Find the most likely keyframe poses from odometry and verified loops (GTSAM), without wrong loops.

Each loop has a Cauchy kernel. After the first solution, loops whose residual exceeds a bound are
dropped and the graph is solved again, so that a wrong loop closure has no influence left. Dropped
loops that fit a later solution are taken back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import gtsam
import numpy as np

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.marginals import all_marginals
from vggt3_ros.refinement.robust_kernels import cauchy_gain

TO_GTSAM = [3, 4, 5, 0, 1, 2]  # GTSAM orders rotation first; ours (and ROS) translation first
BACK = 0.5  # share of the bound below which a dropped loop is taken back
# metres, radians: the keyframe that defines the map's frame keeps its odometry pose
ANCHOR_SIGMA = 1e-4


@dataclass(frozen=True, eq=False)
class Edge:
    """A measured motion T_source_target between keyframes, given by index. information (6, 6): x
    y z rotX rotY rotZ, in the target's frame.
    """

    source: int
    target: int
    T_source_target: np.ndarray
    information: np.ndarray


@dataclass(frozen=True, eq=False)
class Solution:
    """T_map_cam (N, 4, 4). covariances (N, 6, 6): in the map frame, x y z rotX rotY rotZ (the
    order of ROS). kept (L,): mask of the loops that were not dropped. residual_m, residual_rad
    (L,): by how much the solution disagrees with each loop.
    """

    T_map_cam: np.ndarray
    covariances: np.ndarray
    kept: np.ndarray
    residual_m: np.ndarray
    residual_rad: np.ndarray


def solve(
    T_odom_cam: np.ndarray,
    odometry_noise: np.ndarray,
    loops: Sequence[Edge],
    config: PoseGraphConfig,
    initial: np.ndarray | None = None,
    covariances: bool = True,
    progress: Callable[[float], object] | None = None,
    anchor: int = 0,
    kept: np.ndarray | None = None,
) -> Solution:
    """Solve the pose graph and drop wrong loops.

    T_odom_cam (N, 4, 4): odometry. odometry_noise (N, 6, 6): covariance of each step, in the later
    camera's frame. loops: L edges. initial (N, 4, 4): poses to start from, the odometry by
    default. covariances: compute them too; zero otherwise. progress(fraction) is called while they
    are computed; what it raises ends the solution. anchor: index of the keyframe that is held
    fixed. kept (L,): mask of the loops to start with, all by default.
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
        # Drop the worst first, since one wrong loop can make correct neighbours look bad. The last
        # round drops all that are left.
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


def as_known(loops: Sequence[Edge], T_map_cam: np.ndarray, kernel: float) -> list[Edge]:
    """Return Edges with the information to compute covariances from, given a solution T_map_cam
    (N, 4, 4) that was found with a Cauchy kernel on them.

    A kernel reduces the weight of correct measurements too: the inverse of the weighted
    information is half as much again as the scatter of the solution (see robust_kernels.py).
    Weights are raised to make up for that, but never beyond the full weight of a measurement.
    """
    gain = cauchy_gain(kernel)
    out: list[Edge] = []
    for edge in loops:
        off = se3.log(
            se3.inverse(edge.T_source_target)
            @ se3.inverse(T_map_cam[edge.source])
            @ T_map_cam[edge.target]
        )
        weight = 1 / (1 + off @ edge.information @ off / kernel**2)
        out.append(replace(edge, information=min(1.0, gain * weight) * edge.information))
    return out


def build(
    T_odom_cam: np.ndarray,
    odometry_noise: np.ndarray,
    loops: Sequence[Edge],
    config: PoseGraphConfig,
    anchor: int = 0,
    loop_kernels: bool = True,
) -> gtsam.NonlinearFactorGraph:
    """Return the factor graph of poses 0..N-1.

    The pose of `anchor` is fixed. Odometry steps have a Huber kernel, loops a Cauchy kernel unless
    `loop_kernels` is false. Arguments are those of :func:`solve`.
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
        robust = gtsam.noiseModel.Robust.Create(
            gtsam.noiseModel.mEstimator.Huber.Create(config.odometry_kernel),
            gtsam.noiseModel.Gaussian.Covariance(covariance),
        )
        graph.add(
            gtsam.BetweenFactorPose3(i, i + 1, gtsam.Pose3(se3.orthonormalize(step)), robust)
        )
    for edge in loops:
        information = edge.information[np.ix_(TO_GTSAM, TO_GTSAM)]
        noise: gtsam.noiseModel.Base = gtsam.noiseModel.Gaussian.Information(information)
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


def as_values(T_map_cam: np.ndarray) -> gtsam.Values:
    """Convert poses (N, 4, 4) to gtsam.Values."""
    values = gtsam.Values()
    for i, pose in enumerate(se3.orthonormalize(T_map_cam)):
        values.insert(i, gtsam.Pose3(pose))
    return values


def _optimize(graph: gtsam.NonlinearFactorGraph, initial: np.ndarray) -> gtsam.Values:
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setMaxIterations(100)
    return gtsam.LevenbergMarquardtOptimizer(graph, as_values(initial), parameters).optimize()


def _residuals(T_map_cam: np.ndarray, loops: Sequence[Edge]) -> tuple[np.ndarray, np.ndarray]:
    if not loops:
        return np.zeros(0), np.zeros(0)
    source, target = np.array([e.source for e in loops]), np.array([e.target for e in loops])
    measured = np.array([e.T_source_target for e in loops])
    error = se3.inverse(measured) @ se3.inverse(T_map_cam[source]) @ T_map_cam[target]
    return np.linalg.norm(error[:, :3, 3], axis=1), se3.rotation_angle(error)


def _marginals(
    graph: gtsam.NonlinearFactorGraph,
    values: gtsam.Values,
    T_map_cam: np.ndarray,
    progress: Callable[[float], object] | None,
) -> np.ndarray:
    return in_map_axes(all_marginals(graph, values, progress), T_map_cam)


def in_map_axes(covariances: np.ndarray, T_map_cam: np.ndarray) -> np.ndarray:
    """Convert covariances (N, 6, 6) from GTSAM's convention (camera axes, rotation first) to that
    of ROS (map axes, translation first).
    """
    covariances = covariances[:, TO_GTSAM][:, :, TO_GTSAM]
    turn = np.zeros_like(covariances)
    turn[:, :3, :3] = turn[:, 3:, 3:] = T_map_cam[:, :3, :3]
    turned: np.ndarray = turn @ covariances @ turn.swapaxes(1, 2)
    return turned
