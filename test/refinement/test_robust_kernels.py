"""What a robust kernel costs, against estimates that were made with it."""

import numpy as np
import pytest

from vggt3_ros.refinement.robust_kernels import cauchy_gain


@pytest.mark.parametrize("kernel, dimensions", [(3.0, 6), (1.0, 6), (1.0, 2), (100.0, 6)])
def test_means_scatter_by_the_inverse_of_weighted_information_over_the_gain(kernel, dimensions):
    """The location of 60 normal points of unit deviation, by iteratively re-weighted means, 2000
    times.
    """
    points = np.random.default_rng(0).standard_normal((2000, 60, dimensions))
    mean = points.mean(axis=1)
    for _ in range(15):
        weights = 1 / (1 + np.square(points - mean[:, None]).sum(axis=2) / kernel**2)
        mean = (weights[..., None] * points).sum(axis=1) / weights.sum(axis=1)[:, None]
    claimed = 1 / (weights.sum(axis=1).mean() * cauchy_gain(kernel, dimensions))
    assert mean.var() == pytest.approx(claimed, rel=0.08)
    assert cauchy_gain(kernel, dimensions) >= 1 - 1e-6
