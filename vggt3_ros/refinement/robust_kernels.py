"""How much more accurate an estimate with a robust kernel is than the inverse of its weighted
information says.

For normal errors e of `dimensions` components with weights w(|e|), the estimate's variance is
E[psi^2] / E[psi']^2 with psi = w |e|; the inverse of the weighted information is 1 / E[w] (Huber,
Robust Statistics, 1981, chapters 3 and 4; here for a radial weight).
"""

from functools import lru_cache

import numpy as np
from scipy.special import gamma

# limit of the radial integral, in standard deviations (1e-28 of the errors lie beyond), and the
# number of points
FARTHEST, POINTS = 12.0, 20_001


@lru_cache(maxsize=64)
def cauchy_gain(kernel: float, dimensions: int = 6) -> float:
    """Return the factor, at least 1, by which the weighted information of a Cauchy kernel has to
    be multiplied. kernel: in standard deviations.
    """
    r = np.linspace(0, FARTHEST, POINTS)
    # density of the chi distribution
    density = (
        r ** (dimensions - 1)
        * np.exp(-r * r / 2)
        / (2 ** (dimensions / 2 - 1) * gamma(dimensions / 2))
    )

    def mean(values: np.ndarray) -> float:
        return float(np.trapezoid(values * density, r))

    weight = 1 / (1 + np.square(r / kernel))
    weighted = mean(weight)
    slope = weighted + mean(np.gradient(weight, r) * r) / dimensions
    return float(slope**2 / (mean(np.square(weight * r)) / dimensions * weighted))
