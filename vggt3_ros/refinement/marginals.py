"""Covariances of all poses of a graph at once: those blocks of the inverse that the factorization
has in common with the graph.

gtsam.Marginals walks the Bayes tree anew for every pose, which grows faster than the graph: 1600
poses took 21 s, this takes 1.6. The recursion is that of Golub and Plemmons (1980), in blocks, as
Kaess and Dellaert use it (RAS 2009, section 4.2).
"""

import gtsam
import numpy as np
import torch

POSE = 6


def all_marginals(graph, values, progress=None):
    """gtsam graph of poses 0..N-1 and the gtsam Values to linearize at -> (N, 6, 6) covariances as
    gtsam.Marginals gives them.

    progress(fraction) is called now and then; what it raises passes.
    """
    return net_marginals(graph.linearize(values).eliminateSequential(), progress)


def pose_net(graph, values, points):
    """gtsam graph of poses 0..N-1 and of points under these keys -> gtsam.GaussianBayesNet of the
    poses alone (Schur complement).
    """
    ordering = gtsam.Ordering()
    for key in points:
        ordering.push_back(key)
    _, poses = graph.linearize(values).eliminatePartialSequential(ordering)
    return poses.eliminateSequential()


def covariance_with(net, direction):
    """gtsam.GaussianBayesNet of poses 0..N-1, a linear function of them (N, 6) -> (N, 6)
    covariance of each pose with its value.
    """
    vector = gtsam.VectorValues()
    for key, part in enumerate(direction):
        vector.insert(key, part)
    solved = net.backSubstitute(net.backSubstituteTranspose(vector))
    return np.array([solved.at(key) for key in range(len(direction))])


def net_marginals(net, progress=None):
    """gtsam.GaussianBayesNet of poses 0..N-1 alone -> (N, 6, 6) covariances; progress as in
    all_marginals.
    """
    count = net.size()
    conditionals = [net.at(i) for i in range(count)]
    keys = [list(conditional.keys()) for conditional in conditionals]
    place = {own[0]: i for i, own in enumerate(keys)}  # in the order of elimination
    parents, beside, own = [None] * count, [None] * count, np.empty((count, POSE, POSE))
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


def _product(a, b):
    """a @ b, not through numpy's BLAS: its threads spin on products as small as these, which takes
    ten times the computing.
    """
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def _joint(wanted, parents, beside, own):
    """Covariance (6k, 6k) of k poses that were eliminated later and are all joined: parents[p]
    (ascending), beside[p] (k, 6, 6) covariances of p with each of them, own[p] its own.
    """
    joint = np.empty((len(wanted), POSE, len(wanted), POSE))
    for a, p in enumerate(wanted):
        joint[a, :, a] = own[p]
        rest = beside[p][np.searchsorted(parents[p], wanted[a + 1 :])]
        joint[a, :, a + 1 :] = rest.swapaxes(0, 1)
        joint[a + 1 :, :, a] = rest.swapaxes(1, 2)
    return joint.reshape(POSE * len(wanted), POSE * len(wanted))
