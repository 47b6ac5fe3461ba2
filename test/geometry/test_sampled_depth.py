"""Depth sampled at pixels: known on surfaces, unknown at edges."""

import numpy as np

from vggt3_ros.geometry.sampled_depth import sample_depth


def test_depth_is_read_on_surfaces_and_not_across_edges():
    depth = np.full((40, 60), 2.0, np.float32)
    depth[:, 30:] = 3.0
    depth[10:13, 10:13] = 0
    pixels = np.array(
        [
            [5.2, 5.4],
            [45.0, 20.0],
            [29.6, 20.0],
            [11.0, 11.0],
            [9.4, 11.0],
            [0.0, 0.0],
            [59.0, 39.0],
            [-0.4, 39.4],
        ]
    )
    np.testing.assert_allclose(sample_depth(depth, pixels), [2, 3, 0, 0, 0, 2, 3, 2])
    slanted = np.tile(np.linspace(1, 2, 60, dtype=np.float32), (40, 1))
    found = sample_depth(slanted, np.array([[20.0, 20.0], [40.0, 30.0]]))
    np.testing.assert_allclose(found, [1 + 20 / 59, 1 + 40 / 59], rtol=1e-5)
