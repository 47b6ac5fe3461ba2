"""Keys of the scene memory against their definition."""

import numpy as np

from vggt3_ros.features.xfeat import Features
from vggt3_ros.memory.keys import KEY_SIZE, WINDOWS, dense_keys


def features(h, w, seed=0):
    rng = np.random.default_rng(seed)
    return Features(8 * w, 8 * h, np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 64), np.float16),
                    rng.normal(size=(64, h, w)).astype(np.float16), np.ones((h, w), np.float16))


def test_a_key_is_the_cell_and_its_averages_also_at_the_border():
    f = features(11, 17)
    keys = dense_keys(f).reshape(11, 17, -1)
    assert keys.shape[-1] == KEY_SIZE and keys.dtype == np.float32
    dense = f.dense.astype(np.float64)
    for y, x in ((0, 0), (0, 9), (5, 8), (10, 16), (7, 1)):
        expected = [dense[:, y, x]]
        for window in WINDOWS:
            r = window // 2
            expected.append(dense[:, max(0, y - r):y + r + 1, max(0, x - r):x + r + 1].mean(axis=(1, 2)))
        np.testing.assert_allclose(keys[y, x], np.concatenate(expected), atol=2e-3)


def test_an_image_smaller_than_the_window_has_keys():
    keys = dense_keys(features(2, 3))
    assert keys.shape == (6, KEY_SIZE) and np.isfinite(keys).all()
