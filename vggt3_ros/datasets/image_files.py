"""Read and write the images and depth images of data sets."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.levels import Levels, spread

COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path, camera: Camera, levels: Levels | None = None) -> np.ndarray:
    """Return an image (height, width, 3) uint8 RGB of the camera's size. Raise ValueError naming
    the file.

    levels: Levels of its sequence, for 16-bit images; None: the image is converted by itself.
    """
    image = _read(path, COLOR, camera)
    if image.dtype == np.uint16:
        image = (levels or Levels()).to_8_bits(image)
    if image.dtype != np.uint8:
        raise ValueError(f"{path} is {image.dtype}: images must have 8 or 16 bits per channel")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def levels_of(files: Sequence[Path]) -> Levels:
    """Return the Levels of a sequence of image files."""

    def look() -> list[np.ndarray]:
        images = (cv2.imread(str(files[i]), COLOR) for i in spread(len(files)))
        return [image for image in images if image is not None and image.dtype == np.uint16]

    return Levels(look=look)


def read_depth(
    path: Path, camera: Camera, depth_scale: float, invalid: int | None = None
) -> np.ndarray:
    """Read a 16-bit PNG (a depth of 1 m is stored as depth_scale) or a float32 image as (height,
    width) float32 metres, 0 where unknown. Raise ValueError naming the file.

    invalid: a stored value that means unknown, in addition to 0.
    """
    depth = _read(path, cv2.IMREAD_UNCHANGED, camera)
    if depth.dtype not in (np.uint16, np.float32) or depth.ndim != 2:
        raise ValueError(
            f"{path} is {depth.dtype} with shape {depth.shape}: depth images must have one channel of uint16 or float32"
        )
    if invalid is not None:
        depth = np.where(depth == invalid, 0, depth)
    return depth.astype(np.float32) / np.float32(depth_scale)


def write_image(path: Path, image: np.ndarray, parameters: Sequence[int] = ()) -> None:
    """Write a BGR or single-channel image. Raise OSError on failure. parameters: of cv2.imwrite."""
    if not cv2.imwrite(str(path), image, list(parameters)):
        raise OSError(f"cannot write {path}")


def _read(path: Path, flags: int, camera: Camera) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(
            f"{path} is not an image that OpenCV can read: replace it or remove it from the data set"
        )
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"{path} is {image.shape[1]}x{image.shape[0]}, the calibration says {camera.width}x{camera.height}: correct "
            "the calibration (depth must be registered to the image)"
        )
    return image
