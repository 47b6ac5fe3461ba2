"""Matched keypoints moved to where the image patches agree: a keypoint is found to about a pixel, a patch to a fifth of one."""

import cv2
import numpy as np

WINDOW = 13  # pixels; wider windows see perspective, narrower ones too little texture
FARTHEST = 2.5  # pixels; a patch that moves farther has found something else
CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


def align_patches(first, second, first_pixels, second_pixels):
    """Gray images (H, W) uint8, matched pixels (M, 2) of each -> second_pixels (M, 2) float64 moved onto the first's patches.

    Lucas-Kanade (Bouguet 2001, OpenCV) at full resolution from the given matches; a match that it loses stays where it was.
    """
    if not len(first_pixels):
        return second_pixels
    start = np.ascontiguousarray(second_pixels, np.float32).reshape(-1, 1, 2)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(first, second, np.ascontiguousarray(first_pixels, np.float32).reshape(-1, 1, 2), start.copy(),
                                               winSize=(WINDOW, WINDOW), maxLevel=0, criteria=CRITERIA,
                                               flags=cv2.OPTFLOW_USE_INITIAL_FLOW, minEigThreshold=1e-3)
    near = (found.ravel() == 1) & (np.linalg.norm(moved - start, axis=2).ravel() < FARTHEST)
    return np.where(near[:, None], moved.reshape(-1, 2), second_pixels).astype(float)
