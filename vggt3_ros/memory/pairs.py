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
    keys, points, importance = [], [], []
    for frame, pose in zip(frames, T_map_cam):
        depth = frame.cell_depth.reshape(-1)
        known = np.flatnonzero((depth > 0) & (depth <= config.max_depth))
        if len(known) > limit:
            known = np.sort(rng.choice(known, limit, replace=False))
        pixels = frame.features.cell_centres().reshape(-1, 2)[known]
        keys.append(dense_keys(frame.features)[known].astype(np.float16))
        importance.append(np.sqrt(frame.features.reliability.reshape(-1)[known].astype(np.float32)))
        points.append(se3.transform_points(pose, frame.camera.unproject(pixels, depth[known])).astype(np.float32))
    if sum(map(len, keys)) < 64:
        return None
    return np.concatenate(keys), np.concatenate(points), np.concatenate(importance)


