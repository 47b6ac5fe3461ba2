"""Photographs that the environment carries (scikit-image's wheel), for tests on real images."""

import cv2
import numpy as np

from vggt3_ros.datasets.synthetic.textures import photo

NAMES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "ihc.png",
    "retina.jpg",
    "rocket.jpg",
)


def scaled(name, width=640, height=480):
    """The middle of the photograph, filling width x height."""
    image = photo(name)
    scale = max(width / image.shape[1], height / image.shape[0])
    image = cv2.resize(
        image,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[y : y + height, x : x + width])


def warped(image, seed=0, strength=0.08):
    """The image as seen from a little to the side, under other light, and the homography (3, 3)
    from the image to that.
    """
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    moved = corners + rng.uniform(-strength, strength, (4, 2)).astype(np.float32) * (width, height)
    homography = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    out = cv2.warpPerspective(image, homography, (width, height), borderMode=cv2.BORDER_REFLECT)
    out = np.clip(out.astype(float) * rng.uniform(0.8, 1.1) + rng.normal(0, 3, out.shape), 0, 255)
    return out.astype(np.uint8), homography


def moved(points, homography):
    return cv2.perspectiveTransform(np.asarray(points, float)[:, None], homography)[:, 0]
