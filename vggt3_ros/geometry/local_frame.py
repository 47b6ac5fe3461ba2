"""An origin near the data, for what is computed and kept in float32: surfaces, clouds, optimizers.

Coordinates may be those of a country (UTM: millions of metres), where float32 knows half a metre.
"""

import numpy as np

# origins are multiples of it, so that a map near the odometry's own origin has that one; float32
# knows 0.06 mm so far away
CELL_M = 1000.0
KEPT_M = 1000.0  # an origin is kept until what it was chosen for has moved so far from it
# from an origin: beyond, float32 does not know half a voxel, and blocks of voxels run out of
# numbers at twice that
FARTHEST_VOXELS = 2**22


def origin_near(position, held=None):
    """(3,) metres -> (3,) float64, a multiple of a kilometre near it: zeros within half a
    kilometre. held: one to keep if it is near enough.
    """
    position = np.asarray(position, float)
    if held is not None and np.abs(position - held).max() <= KEPT_M:
        return held
    return np.round(position / CELL_M) * CELL_M + 0.0  # no -0


def too_far(positions, origin, voxel_size):
    """Mask (N,) of the positions (N, 3), metres, around which a surface kept from `origin` on
    cannot be told in float32.
    """
    return np.abs(np.asarray(positions) - origin).max(axis=-1) > FARTHEST_VOXELS * voxel_size


def shifted(transforms, offset):
    """(..., 4, 4) with `offset` (3,) added to their positions."""
    out = np.array(transforms, float)
    out[..., :3, 3] += offset
    return out
