"""Images and depth images of data sets, read from files and written."""

import cv2
import numpy as np

from vggt3_ros.messages.levels import Levels, spread

COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path, camera, levels=None):
    """(height, width, 3) uint8 RGB of the camera's size; ValueError names the file. levels: Levels
    of the sequence it belongs to, for images of 16 bits; None: it is one by itself.
    """
    image = _read(path, COLOR, camera)
    if image.dtype == np.uint16:
        image = (levels or Levels()).to_8_bits(image)
    if image.dtype != np.uint8:
        raise ValueError(f"{path} is {image.dtype}: images have 8 or 16 bits a channel")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def levels_of(files):
    """Levels of a sequence of image files."""

    def look():
        images = (cv2.imread(str(files[i]), COLOR) for i in spread(len(files)))
        return [image for image in images if image is not None and image.dtype == np.uint16]

    return Levels(look=look)


def read_depth(path, camera, depth_scale, invalid=None):
    """16-bit PNG (a depth of 1 m is stored as depth_scale) or float32 image -> (height, width)
    float32 metres, 0 where unknown.

    invalid: a stored value that means unknown, beside 0.
    """
    depth = _read(path, cv2.IMREAD_UNCHANGED, camera)
    if depth.dtype not in (np.uint16, np.float32) or depth.ndim != 2:
        raise ValueError(
            f"{path} is {depth.dtype} with shape {depth.shape}: depth images have one channel of uint16"
        )
    if invalid is not None:
        depth = np.where(depth == invalid, 0, depth)
    return depth.astype(np.float32) / np.float32(depth_scale)


def write_image(path, image, parameters=()):
    """BGR or single-channel image; OSError when it cannot be written."""
    if not cv2.imwrite(str(path), image, list(parameters)):
        raise OSError(f"cannot write {path}")


def _read(path, flags, camera):
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(
            f"{path} is not an image that OpenCV reads: replace it or remove it from the data set"
        )
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"{path} is {image.shape[1]}x{image.shape[0]}, the calibration says {camera.width}x{camera.height}: correct "
            "that (depth must be registered to the image)"
        )
    return image
