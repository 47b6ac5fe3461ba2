"""Matched keypoints moved to where the image patches agree: a keypoint is found to about a pixel,
a patch to a fifth of one.
"""

import cv2
import numpy as np

WINDOW = 13  # pixels; wider windows see perspective, narrower ones too little texture
FARTHEST = 2.5  # pixels; a patch that moves farther has found something else
SAME_SCALE = 0.05  # of which a patch of WINDOW pixels shows a third of a pixel at its edge
CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


def align_patches(first, second, first_pixels, second_pixels, scale=1.0):
    """Gray images (H, W) uint8, of any sizes, matched pixels (M, 2) of each -> second_pixels (M,
    2) float64 moved onto the first's patches.

    scale: focal length of the second camera by that of the first, which brings patches to one
    size. Lucas-Kanade (Bouguet 2001, OpenCV) at full resolution from the given matches; a match
    that it loses stays where it was.
    """
    if not len(first_pixels):
        return second_pixels
    if abs(scale - 1) > SAME_SCALE:
        first = cv2.resize(
            first,
            None,
            fx=scale,
            fy=scale,
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        )
        first_pixels = (np.asarray(first_pixels) + 0.5) * scale - 0.5
    height, width = np.maximum(first.shape, second.shape)
    start = np.ascontiguousarray(second_pixels, np.float32).reshape(-1, 1, 2)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        _grown(first, height, width),
        _grown(second, height, width),
        np.ascontiguousarray(first_pixels, np.float32).reshape(-1, 1, 2),
        start.copy(),
        winSize=(WINDOW, WINDOW),
        maxLevel=0,
        criteria=CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        minEigThreshold=1e-3,
    )
    near = (found.ravel() == 1) & (np.linalg.norm(moved - start, axis=2).ravel() < FARTHEST)
    return np.where(near[:, None], moved.reshape(-1, 2), second_pixels).astype(float)


def _grown(image, height, width):
    """With its last row and column repeated: optical flow takes images of one size only."""
    if image.shape == (height, width):
        return image
    return cv2.copyMakeBorder(
        image,
        0,
        int(height - image.shape[0]),
        0,
        int(width - image.shape[1]),
        cv2.BORDER_REPLICATE,
    )
