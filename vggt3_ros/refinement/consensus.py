"""Find the odometry steps and loops that are consistent with each other, by graduated
non-convexity over both (Yang, Antonante, Tzoumas and Carlone, RA-L 2020; GTSAM's GncLMOptimizer
with truncated least squares).

A robust kernel started from the odometry's poses accepts whatever lies near them. Graduated
non-convexity starts from a least-squares problem without outliers, which has no such bias, and
tightens it until each edge is an inlier or an outlier. Rejecting a loop costs as much as an
inlier's largest error; rejecting a step that nothing confirms costs STEP times that. So three
loops that agree with each other outvote one step, and one loop never does.
"""

from collections.abc import Sequence
from dataclasses import replace

import gtsam
import numpy as np
from scipy.special import chdtri

from vggt3_ros.config import PoseGraphConfig
from vggt3_ros.geometry import se3
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.odometry_steps import Steps, repaired, windows
from vggt3_ros.refinement.pose_graph import Edge, Solution

LOOP = 0.5 * chdtri(6, 0.001)  # GTSAM's error is half the squared Mahalanobis distance
# An odometry step enters as this many factors, each with its covariance times this number. Their
# sum is the same; only the cost of rejecting the step is multiplied.
STEP = 2
IN = 0.5  # weight from which an edge is an inlier


def consensus(
    T_odom_cam: np.ndarray,
    steps: Steps,
    edges: Sequence[Edge],
    initial: np.ndarray,
    anchor: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find poses and the steps and loops that are consistent with each other.

    T_odom_cam (N, 4, 4): the odometry. edges: L loops. initial (N, 4, 4): poses to start from.
    anchor: index of the keyframe that is held fixed. Steps that images confirm are not put to the
    vote: two sources say the same.

    Return (T_map_cam (N, 4, 4), mask (N,) of the rejected steps, mask (L,) of the accepted edges).
    """
    count, order = len(T_odom_cam), pose_graph.TO_GTSAM
    graph = gtsam.NonlinearFactorGraph()
    graph.add(
        gtsam.PriorFactorPose3(
            anchor,
            gtsam.Pose3(T_odom_cam[anchor]),
            gtsam.noiseModel.Isotropic.Sigma(6, pose_graph.ANCHOR_SIGMA),
        )
    )
    motions = se3.orthonormalize(se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:])
    noise = STEP * steps.widened(np.zeros(count, bool))[1:, order][:, :, order]
    for i, (motion, covariance) in enumerate(zip(motions, noise)):
        factor = gtsam.BetweenFactorPose3(
            i, i + 1, gtsam.Pose3(motion), gtsam.noiseModel.Gaussian.Covariance(covariance)
        )
        for _ in range(STEP):
            graph.add(factor)
    for edge in edges:
        graph.add(
            gtsam.BetweenFactorPose3(
                edge.source,
                edge.target,
                gtsam.Pose3(edge.T_source_target),
                gtsam.noiseModel.Gaussian.Information(edge.information[np.ix_(order, order)]),
            )
        )
    trusted = np.flatnonzero(np.repeat((steps.confirmed | steps.joined)[1:], STEP)) + 1
    parameters = gtsam.GncLMParams()
    parameters.setLossType(gtsam.GncLossType.TLS)
    parameters.setKnownInliers([0, *trusted.tolist()])
    optimizer = gtsam.GncLMOptimizer(graph, pose_graph.as_values(initial), parameters)
    optimizer.setInlierCostThresholds(LOOP)
    values = optimizer.optimize()
    inside = optimizer.getWeights() >= IN
    T_map_cam = se3.orthonormalize(np.array([values.atPose3(i).matrix() for i in range(count)]))
    broken, held = (
        np.concatenate([[False], ~inside[1 : 1 + STEP * (count - 1) : STEP]]),
        inside[1 + STEP * (count - 1) :],
    )
    return _outvoted(T_odom_cam, T_map_cam, broken, edges, held)


def _outvoted(
    T_odom_cam: np.ndarray,
    T_map_cam: np.ndarray,
    broken: np.ndarray,
    edges: Sequence[Edge],
    held: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Restore the steps that no more than STEP loops contradict, and reject those loops instead.

    The optimizer may reject such a step when these loops alone constrain what comes after it.
    Arguments and result are as those of :func:`consensus`.
    """
    T_map_cam = T_map_cam.copy()
    first, last = np.sort(
        np.array([(edge.source, edge.target) for edge in edges]).reshape(-1, 2), axis=1
    ).T
    for k in np.flatnonzero(broken):
        against = held & (first < k) & (k <= last)
        if against.sum() <= STEP:
            step = se3.inverse(T_odom_cam[k - 1]) @ T_odom_cam[k]
            T_map_cam[k:] = T_map_cam[k - 1] @ step @ se3.inverse(T_map_cam[k]) @ T_map_cam[k:]
            broken[k], held = False, held & ~against
    return T_map_cam, broken, held


def agreed_steps(
    T_odom_cam: np.ndarray, steps: Steps, edges: Sequence[Edge], reach: int
) -> tuple[Steps, dict[int, np.ndarray]]:
    """Test the doubted steps against matches between neighbours in time.

    Only windows around doubted steps are solved, with the edges that span at most `reach`
    keyframes. Return (the Steps, in which those that the neighbours confirm are no longer doubted,
    {index: T_before_here (4, 4)}: the motion on which the neighbours agree for the others).
    """
    doubted, seen = steps.doubted.copy(), steps.seen.copy()
    motions: dict[int, np.ndarray] = {}
    for window in windows(steps.doubted, 2 * reach, steps.joined):
        begin, part = window.start, steps.within(window)
        inside = [
            replace(edge, source=edge.source - begin, target=edge.target - begin)
            for edge in edges
            if abs(edge.source - edge.target) <= reach
            and begin <= min(edge.source, edge.target)
            and max(edge.source, edge.target) < window.stop
        ]
        odometry = T_odom_cam[window]
        measured = {
            k: part.motions[k] for k in np.flatnonzero(part.doubted).tolist() if k in part.motions
        }
        found, _, held = consensus(
            odometry,
            part,
            inside,
            repaired(odometry, odometry, measured, np.zeros(len(odometry), int)),
        )
        part = part.seen_from(
            odometry, found, [edge for edge, holds in zip(inside, held) if holds]
        )
        doubted[window], seen[window] = part.doubted, part.seen
        motions |= {
            begin + k: se3.inverse(found[k - 1]) @ found[k]
            for k in np.flatnonzero(part.doubted).tolist()
        }
    return replace(steps, doubted=doubted, seen=seen), motions


def weigh(
    T_odom_cam: np.ndarray,
    steps: Steps,
    broken: np.ndarray,
    edges: Sequence[Edge],
    config: PoseGraphConfig,
    start: np.ndarray,
    anchor: int = 0,
) -> tuple[Solution, np.ndarray]:
    """Solve the pose graph and decide which unconfirmed steps to reject.

    T_odom_cam (N, 4, 4): odometry. broken (N,): mask of the steps rejected so far. start (N, 4,
    4): poses to start from. Return (Solution without covariances, mask (N,) of the rejected
    steps).

    The graph is first solved as it is. If it rejects loops that a broken unconfirmed step would
    explain, all edges are put to the vote by :func:`consensus`. The solution of lower
    :func:`cost` is returned, since graduated non-convexity may end in a worse one.
    """
    solution = pose_graph.solve(
        T_odom_cam, steps.widened(broken), edges, config, start, False, anchor=anchor
    )
    doubtful = np.cumsum(steps.open)
    if not any(
        not kept and doubtful[edge.source] != doubtful[edge.target]
        for edge, kept in zip(edges, solution.kept)
    ):
        return solution, broken
    found, voted, _ = consensus(T_odom_cam, steps, edges, start, anchor)
    other = pose_graph.solve(
        T_odom_cam, steps.widened(voted), edges, config, found, False, anchor=anchor
    )
    before, after = (
        cost(T_odom_cam, steps, edges, found.T_map_cam) for found in (solution, other)
    )
    return (other, voted) if after < before else (solution, broken)


def cost(
    T_odom_cam: np.ndarray, steps: Steps, edges: Sequence[Edge], T_map_cam: np.ndarray
) -> float:
    """Evaluate the objective of :func:`consensus` at poses (N, 4, 4); lower is better."""
    _, distance = replace(steps, noise=steps.widened(np.zeros(len(T_odom_cam), bool))).off(
        T_odom_cam, T_map_cam
    )
    of_steps = np.where(steps.open, np.minimum(distance / 2, STEP * LOOP), distance / 2)
    return float(of_steps.sum() + np.minimum(distances(edges, T_map_cam) / 2, LOOP).sum())


def distances(edges: Sequence[Edge], T_map_cam: np.ndarray) -> np.ndarray:
    """Return the squared Mahalanobis distance (L,) of each Edge from poses (N, 4, 4)."""
    if not edges:
        return np.zeros(0)
    source, target = np.array([(e.source, e.target) for e in edges]).T
    predicted = se3.inverse(T_map_cam[source]) @ T_map_cam[target]
    off = se3.log(se3.inverse(np.array([e.T_source_target for e in edges])) @ predicted)
    information = np.array([e.information for e in edges])
    distance: np.ndarray = np.einsum("ni,nij,nj->n", off, information, off)
    return distance
