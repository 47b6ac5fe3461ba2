"""Compute the covariances of all poses of a graph at once: the blocks of the inverse that lie in
the sparsity pattern of the factorization.

gtsam.Marginals walks the Bayes tree again for every pose, which grows faster than the graph: it
took 21 s for 1600 poses, where this takes 1.6 s. The recursion is that of Golub and Plemmons
(1980), in blocks, as used by Kaess and Dellaert (RAS 2009, section 4.2).
"""

from collections.abc import Callable, Iterable, Sequence

import gtsam
import numpy as np
import torch

POSE = 6


def all_marginals(
    graph: gtsam.NonlinearFactorGraph,
    values: gtsam.Values,
    progress: Callable[[float], object] | None = None,
) -> np.ndarray:
    """Return the covariances (N, 6, 6) of a graph of poses 0..N-1, as gtsam.Marginals gives them.

    values: where to linearize. progress(fraction) is called now and then; what it raises is
    passed on.
    """
    return net_marginals(graph.linearize(values).eliminateSequential(), progress)


def pose_net(
    graph: gtsam.NonlinearFactorGraph, values: gtsam.Values, points: Iterable[int]
) -> gtsam.GaussianBayesNet:
    """Eliminate the points, given by their keys, from a graph of points and poses 0..N-1; return
    the Bayes net of the poses (Schur complement).
    """
    ordering = gtsam.Ordering()
    for key in points:
        ordering.push_back(key)
    _, poses = graph.linearize(values).eliminatePartialSequential(ordering)
    return poses.eliminateSequential()


def covariance_with(net: gtsam.GaussianBayesNet, direction: np.ndarray) -> np.ndarray:
    """Return the covariance (N, 6) of each of poses 0..N-1 with a linear function of all of them,
    given by its coefficients `direction` (N, 6).
    """
    vector = gtsam.VectorValues()
    for key, part in enumerate(direction):
        vector.insert(key, part)
    solved = net.backSubstitute(net.backSubstituteTranspose(vector))
    return np.array([solved.at(key) for key in range(len(direction))])


def net_marginals(
    net: gtsam.GaussianBayesNet, progress: Callable[[float], object] | None = None
) -> np.ndarray:
    """Return the covariances (N, 6, 6) of a Bayes net of poses 0..N-1. progress: as in
    all_marginals.
    """
    count = net.size()
    conditionals = [net.at(i) for i in range(count)]
    keys = [list(conditional.keys()) for conditional in conditionals]
    place = {own_keys[0]: i for i, own_keys in enumerate(keys)}  # in the order of elimination
    parents: list[np.ndarray] = [np.empty(0, np.int64)] * count
    beside: list[np.ndarray] = [np.empty((0, POSE, POSE))] * count
    own = np.empty((count, POSE, POSE))
    for done, i in enumerate(reversed(range(count))):
        if progress:
            progress(done / count)
        inverse = np.linalg.inv(conditionals[i].R())
        known = np.array([place[key] for key in keys[i][1:]], np.int64)
        order = np.argsort(known)
        parents[i] = known[order]
        # x_i = -follows x_parents + noise
        follows = (
            (inverse @ conditionals[i].S()).reshape(POSE, -1, POSE)[:, order].reshape(POSE, -1)
        )
        across = -_product(follows, _joint(parents[i], parents, beside, own))
        own[i] = inverse @ inverse.T - across @ follows.T
        beside[i] = across.reshape(POSE, -1, POSE).swapaxes(0, 1)
    out = np.empty_like(own)
    out[[own_keys[0] for own_keys in keys]] = own
    return 0.5 * (out + out.swapaxes(1, 2))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b without numpy's BLAS, whose threads spin on products as small as these and so
    take ten times the processor time.
    """
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def _joint(
    wanted: np.ndarray,
    parents: Sequence[np.ndarray],
    beside: Sequence[np.ndarray],
    own: np.ndarray,
) -> np.ndarray:
    """Return the joint covariance (6k, 6k) of k poses that are eliminated later and all connected.

    parents[p]: the poses that p depends on, ascending. beside[p] (k, 6, 6): the covariances of p
    with each of them. own[p] (6, 6): that of p itself.
    """
    joint = np.empty((len(wanted), POSE, len(wanted), POSE))
    for a, p in enumerate(wanted):
        joint[a, :, a] = own[p]
        rest = beside[p][np.searchsorted(parents[p], wanted[a + 1 :])]
        joint[a, :, a + 1 :] = rest.swapaxes(0, 1)
        joint[a + 1 :, :, a] = rest.swapaxes(1, 2)
    return joint.reshape(POSE * len(wanted), POSE * len(wanted))
