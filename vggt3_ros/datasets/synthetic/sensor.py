"""Models of a colour and a depth camera, applied to rendered frames. All noise comes from the
given Generator.
"""

import cv2
import numpy as np

from vggt3_ros.datasets.synthetic.render import Frame

MIN_DEPTH, MAX_DEPTH = 0.3, 6.0  # metres
_TARGET_BRIGHTNESS = 120.0


def photograph(color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply imperfect auto exposure, vignetting, white balance and noise to color (height, width,
    3), float32 in 0..255. Return uint8.
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
    # soft saturation of highlights
    image = np.where(image > 200, 255 - 55 * np.exp((200 - image) / 55), image)
    noise = rng.standard_normal(image.shape, np.float32)
    image = np.rint(image + noise * (0.9 + 0.05 * np.sqrt(np.maximum(image, 0))))
    exposed: np.ndarray = np.clip(image, 0, 255)
    return exposed.astype(np.uint8)


def measure_depth(frame: Frame, rng: np.random.Generator, noise: float = 1.0) -> np.ndarray:
    """Simulate a structured-light or time-of-flight camera. Return (height, width) float32 metres,
    0 = unknown.

    With noise = 1: standard deviation 1.2 mm * z^2, resolution 1 mm, no values below 0.3 m or
    beyond 6 m, gaps at grazing angles and at depth edges. Other values scale the deviation; 0
    returns the frame's exact depth everywhere.
    """
    if noise == 0:
        return frame.depth.copy()
    exact = frame.depth
    depth = exact + (noise * 0.0012) * exact**2 * rng.standard_normal(exact.shape, np.float32)
    depth = np.round(depth, 3)
    neighbourhood = np.ones((3, 3), np.uint8)
    # depth range of a smooth surface within the neighbourhood
    slanted = 3 * exact / (frame.camera.fx * np.maximum(frame.incidence, 0.05))
    edge = (
        cv2.dilate(exact, neighbourhood) - cv2.erode(exact, neighbourhood) > 0.02 * exact + slanted
    )
    grazing = frame.incidence < 0.08 + 0.12 * rng.random(exact.shape, np.float32)
    return np.where(edge | grazing | (exact < MIN_DEPTH) | (exact > MAX_DEPTH), 0, depth).astype(
        np.float32
    )
