"""A local origin near the data, for what is computed and stored in float32: surfaces, clouds,
optimizers.

Coordinates may be national (UTM: millions of metres), where float32 resolves half a metre.
"""

import numpy as np
from numpy.typing import ArrayLike

from vggt3_ros.geometry.se3 import Floats

# Origins are multiples of this, so that a map near the odometry's origin keeps that one. float32
# resolves 0.06 mm at this distance.
CELL_M = 1000.0
KEPT_M = 1000.0  # an origin is kept until the data has moved this far from it
# Distance from an origin beyond which float32 no longer resolves half a voxel. Indices of voxel
# blocks overflow at twice that.
FARTHEST_VOXELS = 2**22


def origin_near(position: ArrayLike, held: Floats | None = None) -> Floats:
    """Return an origin (3,) for data near `position` (3,), metres: a multiple of CELL_M, zero
    within half of that. held: an existing origin, returned if it is near enough.
    """
    position = np.asarray(position, float)
    if held is not None and np.abs(position - held).max() <= KEPT_M:
        return held
    return np.round(position / CELL_M) * CELL_M + 0.0  # no -0


def too_far(positions: ArrayLike, origin: ArrayLike, voxel_size: float) -> np.ndarray:
    """Return a mask (N,) of positions (N, 3), metres, too far from `origin` (3,) for float32 to
    resolve a surface of voxels of `voxel_size`, metres.
    """
    distance: np.ndarray = np.abs(np.asarray(positions) - origin).max(axis=-1)
    return distance > FARTHEST_VOXELS * voxel_size


def shifted(transforms: ArrayLike, offset: ArrayLike) -> Floats:
    """Return transforms (..., 4, 4) with `offset` (3,), metres, added to their translations."""
    out = np.array(transforms, float)
    out[..., :3, 3] += offset
    return out
