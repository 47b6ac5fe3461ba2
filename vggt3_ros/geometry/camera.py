"""Pinhole cameras with the distortion models of sensor_msgs/CameraInfo. OpenCV axes: x right, y down, z forward."""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

MAX_SIDE = 16384  # pixels; a larger image is a broken message, not a camera
MAX_PIXELS = 2**26  # of an image that comes from outside; a flat JPEG of the longest sides is 4 MB, and 800 MB once it is decoded
MAX_COEFFICIENTS = 14
COEFFICIENTS = {"": (0,), "none": (0,), "plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels; `distortion` are the coefficients in CameraInfo.d of the named model.

    Raises ValueError naming the field when a size, focal length, principal point or coefficient makes no sense.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = ""
    distortion: tuple = ()

    def __post_init__(self):
        for name in ("width", "height"):
            if not 1 <= getattr(self, name) <= MAX_SIDE:
                raise ValueError(f"camera {name} must be 1..{MAX_SIDE} pixels, got {getattr(self, name)}")
        for name in ("fx", "fy"):
            value = getattr(self, name)
            if not (np.isfinite(value) and 0.05 * self.width < value < 100 * self.width):
                raise ValueError(f"camera {name} must be a focal length in pixels, got {value} for width {self.width}")
        for name, size in (("cx", self.width), ("cy", self.height)):
            value = getattr(self, name)
            if not (np.isfinite(value) and -size < value < 2 * size):
                raise ValueError(f"camera {name} must lie near the image, got {value}")
        if self.distortion_model not in COEFFICIENTS:
            known = ", ".join(sorted(filter(None, COEFFICIENTS)))
            raise ValueError(f"camera distortion_model '{self.distortion_model[:80]}' is unknown; known: {known}")
        if len(self.distortion) > MAX_COEFFICIENTS:
            raise ValueError(f"camera distortion must have at most {MAX_COEFFICIENTS} coefficients, got {len(self.distortion)}")
        object.__setattr__(self, "distortion", tuple(float(d) for d in self.distortion))
        if not np.all(np.isfinite(self.distortion)):
            raise ValueError("camera distortion holds NaN or infinity")
        if any(self.distortion) and len(self.distortion) not in COEFFICIENTS[self.distortion_model]:
            expected = " or ".join(map(str, COEFFICIENTS[self.distortion_model]))
            raise ValueError(f"camera distortion_model '{self.distortion_model}' takes {expected} coefficients, "
                             f"got {len(self.distortion)}")

    @property
    def matrix(self):
        """K, (3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def pinhole(self):
        """Without distortion, as poselib takes it."""
        return {"model": "PINHOLE", "width": self.width, "height": self.height, "params": [self.fx, self.fy, self.cx, self.cy]}

    @property
    def is_distorted(self):
        return any(self.distortion)

    def undistorted(self):
        """The same camera without distortion (same size and K): what images look like after :func:`undistort`."""
        return replace(self, distortion_model="", distortion=())

    def scaled(self, width, height):
        """The camera of the same image resized to width x height (pixel centres at integers)."""
        sx, sy = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy,
                       cx=(self.cx + 0.5) * sx - 0.5, cy=(self.cy + 0.5) * sy - 0.5)

    def project(self, points):
        """Points (..., 3) in the camera frame, metres -> pixels (..., 2); distortion is not applied."""
        points = np.asarray(points, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return points[..., :2] / points[..., 2:] * (self.fx, self.fy) + (self.cx, self.cy)

    def unproject(self, pixels, depth):
        """Undistorted pixels (..., 2) and depth along z (...,), metres -> points (..., 3) in the camera frame."""
        pixels, depth = np.asarray(pixels, float), np.asarray(depth, float)
        rays = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        return np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


@lru_cache(maxsize=16)
def _undistortion_maps(camera):
    size, matrix, coefficients = (camera.width, camera.height), camera.matrix, np.array(camera.distortion)
    if camera.distortion_model == "equidistant":
        return cv2.fisheye.initUndistortRectifyMap(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_16SC2)
    return cv2.initUndistortRectifyMap(matrix, coefficients, None, matrix, size, cv2.CV_16SC2)


def undistort(image, camera, nearest=False):
    """Image (height, width[, 3]) as the camera saw it -> as `camera.undistorted()` would have seen it.

    `nearest` keeps depth maps free of values mixed across edges. Raises ValueError when the size differs from the camera's.
    """
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"image is {image.shape[1]}x{image.shape[0]}, its camera {camera.width}x{camera.height}")
    if not camera.is_distorted:
        return image
    return cv2.remap(image, *_undistortion_maps(camera), cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)
