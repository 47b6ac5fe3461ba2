"""Refine matched keypoints to subpixel accuracy by aligning the image patches around them: a
detected keypoint is good to about a pixel, an aligned patch to a fifth of one.
"""

import cv2
import numpy as np

WINDOW = 13  # pixels; a wider window sees perspective, a narrower one too little texture
FARTHEST = 2.5  # pixels; a patch that moves farther has locked onto something else
# relative difference of scale that is ignored: a third of a pixel at the edge of the window
SAME_SCALE = 0.05
CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


def align_patches(
    first: np.ndarray,
    second: np.ndarray,
    first_pixels: np.ndarray,
    second_pixels: np.ndarray,
    scale: float = 1.0,
) -> np.ndarray:
    """Move matched pixels of the second image onto the patches of the first.

    first, second: gray images (H, W) uint8, which may differ in size. first_pixels, second_pixels
    (M, 2): the matches, x y. scale: focal length of the second camera divided by that of the
    first; the first image is resized by it so that the patches have one scale.

    Return the new second_pixels (M, 2) float64. The method is Lucas-Kanade (Bouguet 2001, OpenCV)
    at full resolution, started from the given matches. A match that it loses stays where it was.
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


def _grown(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad an image by repeating its last row and column: optical flow needs images of one size."""
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
