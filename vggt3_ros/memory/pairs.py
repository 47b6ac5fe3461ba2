"""(key, map point) pairs of all keyframes: what a scene memory is distilled from."""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.memory.keys import dense_keys


def collect_pairs(frames, T_map_cam, count, config, seed=0):
    """`count` Frames and their (N, 4, 4) poses -> keys (M, 192) float16, points (M, 3) float32 metres, importance (M,) float32;
    None without depth.

    Importance is the square root of XFeat's reliability: queries ask about reliable cells, and drawing them more often cut the
    median error on real images from 3.05 to 2.39 cm at 600 steps (in proportion to reliability itself: 3.01).

    At most config.max_pairs in all, the same share of every keyframe, so that no keyframe is forgotten when many are kept.
    """
    limit = max(16, config.max_pairs // count)
    rng = np.random.default_rng(seed)
    pairs = _Pairs()
    for frame, pose in zip(frames, T_map_cam):
        depth = frame.cell_depth.reshape(-1)
        known = np.flatnonzero((depth > 0) & (depth <= config.max_depth))
        if len(known) > limit:
            known = np.sort(rng.choice(known, limit, replace=False))
        pixels = frame.features.cell_centres().reshape(-1, 2)[known]
        pairs.add(dense_keys(frame.features)[known], se3.transform_points(pose, frame.camera.unproject(pixels, depth[known])),
                  np.sqrt(frame.features.reliability.reshape(-1)[known].astype(np.float32)), limit * count)
    return pairs.all() if len(pairs) >= 64 else None


class _Pairs:
    """keys, points and importance in three arrays that are written to in place: joined from one array a keyframe they were there twice,
    which was the most that a refinement took. Pages of an array that are never written to cost nothing."""

    def __init__(self):
        self._arrays, self._count = None, 0

    def __len__(self):
        return self._count

    def add(self, keys, points, importance, most):
        """The next ones of at most `most` in all."""
        if self._arrays is None:
            self._arrays = (np.empty((most, keys.shape[1]), np.float16), np.empty((most, 3), np.float32), np.empty(most, np.float32))
        end = self._count + len(keys)
        for array, values in zip(self._arrays, (keys, points, importance)):
            array[self._count:end] = values
        self._count = end

    def all(self):
        return tuple(array[:self._count] for array in self._arrays)
