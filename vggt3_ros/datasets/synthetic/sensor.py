"""What a camera and a depth camera make of a rendered frame. All noise comes from the given numpy
Generator.
"""

import cv2
import numpy as np

MIN_DEPTH, MAX_DEPTH = 0.3, 6.0  # metres
_TARGET_BRIGHTNESS = 120.0


def photograph(color, rng):
    """color (height, width, 3) float32 0..255 -> uint8: auto exposure that is a little off,
    vignetting, white balance, noise.
    """
    height, width = color.shape[:2]
    gain = (_TARGET_BRIGHTNESS / max(float(color.mean()), 1.0)) ** 0.8 * rng.uniform(0.93, 1.07)
    y, x = np.ogrid[:height, :width]
    radius2 = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2).astype(np.float32)
    image = (
        color
        * (gain * (1 - 0.22 * radius2))[..., None]
        * (1 + 0.012 * rng.standard_normal(3)).astype(np.float32)
    )
    # bright parts saturate softly
    image = np.where(image > 200, 255 - 55 * np.exp((200 - image) / 55), image)
    noise = rng.standard_normal(image.shape, np.float32)
    return np.clip(
        np.rint(image + noise * (0.9 + 0.05 * np.sqrt(np.maximum(image, 0)))), 0, 255
    ).astype(np.uint8)


def measure_depth(frame, rng, noise=1.0):
    """Depth as a structured-light or time-of-flight camera gives it, (height, width) float32
    metres, 0 = unknown.

    noise 1: deviation 1.2 mm * z^2, steps of 1 mm, nothing below 0.3 m or beyond 6 m, gaps at
    grazing angles and at depth edges. Other values scale the deviation; 0 returns the exact depth
    of `frame` (render.Frame), everywhere.
    """
    if noise == 0:
        return frame.depth.copy()
    exact = frame.depth
    depth = exact + (noise * 0.0012) * exact**2 * rng.standard_normal(exact.shape, np.float32)
    depth = np.round(depth, 3)
    neighbourhood = np.ones((3, 3), np.uint8)
    # a smooth surface's share of it
    slanted = 3 * exact / (frame.camera.fx * np.maximum(frame.incidence, 0.05))
    edge = (
        cv2.dilate(exact, neighbourhood) - cv2.erode(exact, neighbourhood) > 0.02 * exact + slanted
    )
    grazing = frame.incidence < 0.08 + 0.12 * rng.random(exact.shape, np.float32)
    return np.where(edge | grazing | (exact < MIN_DEPTH) | (exact > MAX_DEPTH), 0, depth).astype(
        np.float32
    )
