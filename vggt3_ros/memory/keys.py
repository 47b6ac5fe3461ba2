"""What a cell of a dense feature map looks like, with its surroundings: the key the scene memory is asked with."""

import cv2
import numpy as np

WINDOWS = (5, 13)  # cells; averages over wider windows or the image bind a cell to the keyframe it was seen in:
# on real images they raised the median error of unseen views from 3.4 to 5.7 cm at equal training
CHANNELS = 64
KEY_SIZE = CHANNELS * (1 + len(WINDOWS))


def dense_keys(features):
    """Features -> (h * w, 192) float32: each cell's descriptor and its averages over 5x5 and 13x13 cells, row by row."""
    dense = np.ascontiguousarray(np.moveaxis(features.dense, 0, -1).astype(np.float32))
    ones = np.ones(dense.shape[:2], np.float32)
    parts = [dense]
    for window in WINDOWS:
        size = (window, window)
        total = cv2.boxFilter(dense, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        count = cv2.boxFilter(ones, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        parts.append(total / count[..., None])
    return np.concatenate(parts, axis=-1).reshape(-1, KEY_SIZE)
