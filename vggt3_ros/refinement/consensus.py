"""Which steps of the odometry and which loops hold together: graduated non-convexity over both
(Yang, Antonante, Tzoumas and Carlone, RA-L 2020; GTSAM's GncLMOptimizer, truncated least squares).

A robust kernel at the odometry's poses believes whatever lies near them. This starts from a least
squares problem without outliers, which has no such bias, and tightens it until each edge is in or
out. A loop is given up at the cost of an inlier's largest error, a step that nothing confirms at
STEP times that: three loops that agree with each other win against one step, one never does.
"""

from dataclasses import replace

import gtsam
import numpy as np
from scipy.special import chdtri

from vggt3_ros.geometry import se3
from vggt3_ros.refinement import pose_graph
from vggt3_ros.refinement.odometry_steps import repaired, windows

LOOP = 0.5 * chdtri(6, 0.001)  # GTSAM's errors are half the squared distance
# a step enters as so many of so many times its covariance, the same but for what giving it up
# costs
STEP = 2
IN = 0.5  # weight


def consensus(T_odom_cam, steps, edges, initial, anchor=0):
    """(N, 4, 4) odometry, odometry_steps.Steps, Edges of loops, (N, 4, 4) poses to start from ->
    (T_map_cam (N, 4, 4), mask (N,) of the steps that do not hold, mask (L,) of the edges that do).

    Steps that images confirm are held: what they say is known twice. anchor: index of the keyframe
    that stays.
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
    held = np.flatnonzero(np.repeat((steps.confirmed | steps.joined)[1:], STEP)) + 1
    parameters = gtsam.GncLMParams()
    parameters.setLossType(gtsam.GncLossType.TLS)
    parameters.setKnownInliers([0, *held.tolist()])
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


def _outvoted(T_odom_cam, T_map_cam, broken, edges, held):
    """The same without steps that no more than STEP loops speak against: where they alone tie what
    comes after, the optimizer may give up the step all the same.
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


def agreed_steps(T_odom_cam, steps, edges, reach):
    """Odometry, Steps, Edges -> (Steps of which those that neighbours in time bear out are doubted
    no more, {index: T_before_here (4, 4)} what these agree on for the others). Edges over more
    than `reach` keyframes are left out: only windows around doubted steps are solved.
    """
    doubted, seen, motions = steps.doubted.copy(), steps.seen.copy(), {}
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


def weigh(T_odom_cam, steps, broken, edges, config, start, anchor=0):
    """Odometry, Steps, mask (N,) of steps given up before, Edges, PoseGraphConfig, poses to start
    from -> (pose_graph.Solution without covariances, mask (N,) of steps given up).

    The graph is solved as it stands. Where loops were dropped that an unconfirmed step would
    explain, all are put to the vote. The cheaper of both solutions holds: graduated non-convexity
    may end in a worse one.
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


def cost(T_odom_cam, steps, edges, T_map_cam):
    """What consensus() minimizes, of any poses: lower is better."""
    _, distance = replace(steps, noise=steps.widened(np.zeros(len(T_odom_cam), bool))).off(
        T_odom_cam, T_map_cam
    )
    of_steps = np.where(steps.open, np.minimum(distance / 2, STEP * LOOP), distance / 2)
    return float(of_steps.sum() + np.minimum(distances(edges, T_map_cam) / 2, LOOP).sum())


def distances(edges, T_map_cam):
    """(L,) squared distance of each Edge from poses (N, 4, 4)."""
    if not edges:
        return np.zeros(0)
    source, target = np.array([(e.source, e.target) for e in edges]).T
    predicted = se3.inverse(T_map_cam[source]) @ T_map_cam[target]
    off = se3.log(se3.inverse(np.array([e.T_source_target for e in edges])) @ predicted)
    return np.einsum("ni,nij,nj->n", off, np.array([e.information for e in edges]), off)
