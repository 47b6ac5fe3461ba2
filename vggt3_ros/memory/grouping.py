"""Which keyframes share a memory: grouped by the surfaces they see, each group bounded, groups stable while the map grows.

A keyframe joins the group that has most of what it sees already, while that group has room for the rest; where none has, it founds
one. Room is bounded in surface, since that is what a memory of fixed size runs out of (its coarse poses are good to 2 cm over a
kitchen's worth and to half a metre over four rooms), and in keyframes, since their number is what a distillation costs.
"""

import numpy as np

from vggt3_ros.geometry import se3

EDGE_M = 0.25  # of the cells that surfaces are counted in
LEAST_SHARED = 0.3  # of what a keyframe sees must be in a group that it joins
_OFFSET, _BITS = 2**20, 21


def surface_cells(frame, T_target_cam, max_depth):
    """Frame -> (K,) int64, sorted: codes of the cells of space, EDGE_M wide, in which it sees a surface, in frame `target`."""
    depth = frame.cell_depth.reshape(-1)
    known = (depth > 0) & (depth <= max_depth)
    pixels = frame.features.cell_centres().reshape(-1, 2)[known]
    return _codes(se3.transform_points(T_target_cam, frame.camera.unproject(pixels, depth[known])))


def moved_cells(cells, T_target_source):
    """The cells of :func:`surface_cells` in another frame: those that their centres fall into."""
    parts = [((cells >> shift) & (2**_BITS - 1)) - _OFFSET for shift in (2 * _BITS, _BITS, 0)]
    return _codes(se3.transform_points(T_target_source, (np.stack(parts, axis=-1) + 0.5) * EDGE_M))


def _codes(points):
    x, y, z = np.clip(np.floor(points / EDGE_M).astype(np.int64) + _OFFSET, 0, 2**_BITS - 1).T
    return np.unique((x << 2 * _BITS) | (y << _BITS) | z)


def choose(cells, groups, most_keyframes, most_cells):
    """Index of the group that a keyframe joins, None: it founds one.

    cells: of the keyframe. groups: list of (cells of the group in the same frame, keyframes in it). A keyframe that sees nothing
    (no depth) joins none.
    """
    best, chosen = LEAST_SHARED, None
    for index, (held, keyframes) in enumerate(groups):
        if keyframes >= most_keyframes:
            continue
        shared = len(np.intersect1d(cells, held, assume_unique=True))
        if shared > best * len(cells) and len(held) + len(cells) - shared <= most_cells:
            best, chosen = shared / len(cells), index
    return chosen
