"""How much better an estimate with a robust kernel is known than the inverse of its weighted
information says.

For normal errors e of `dimensions` components with weights w(|e|), the estimate's variance is
E[psi^2] / E[psi']^2 with psi = w |e|, the inverse of the weighted information 1 / E[w] (Huber,
Robust Statistics, 1981, chapters 3 and 4; here for a radial weight).
"""

from functools import lru_cache

import numpy as np
from scipy.special import gamma

# of the radial integral, standard deviations; 1e-28 of the errors lie beyond
FARTHEST, POINTS = 12.0, 20_001


@lru_cache(maxsize=64)
def cauchy_gain(kernel, dimensions=6):
    """Factor, at least 1, on the weighted information of a Cauchy kernel; kernel in standard
    deviations.
    """
    r = np.linspace(0, FARTHEST, POINTS)
    # of a chi distribution
    density = (
        r ** (dimensions - 1)
        * np.exp(-r * r / 2)
        / (2 ** (dimensions / 2 - 1) * gamma(dimensions / 2))
    )
    mean = lambda values: float(np.trapezoid(values * density, r))
    weight = 1 / (1 + np.square(r / kernel))
    weighted = mean(weight)
    slope = weighted + mean(np.gradient(weight, r) * r) / dimensions
    return slope**2 / (mean(np.square(weight * r)) / dimensions * weighted)
