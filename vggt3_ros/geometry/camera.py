"""Pinhole cameras with the distortion models of sensor_msgs/CameraInfo. OpenCV axes: x right, y
down, z forward.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import ArrayLike

from vggt3_ros.geometry.se3 import Floats

MAX_SIDE = 16384  # pixels; a larger size is a broken message, not a camera
# Limit for images from outside: a uniform JPEG of MAX_SIDE x MAX_SIDE has 4 MB, and 800 MB decoded.
MAX_PIXELS = 2**26
MAX_COEFFICIENTS = 14
COEFFICIENTS = {
    "": (0,),
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
# names used by camera_calibration before Noetic and by librealsense
OTHER_NAMES = {"fisheye": "equidistant", "kannala_brandt4": "equidistant"}
# relative to the focal length; sensors have a hundredth of it, a transposed matrix exceeds it
LARGEST_SKEW = 0.2


class PinholeDict(TypedDict):
    """A camera without distortion, as poselib takes it."""

    model: str
    width: int
    height: int
    params: list[float]


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels, and a distortion model with its coefficients (CameraInfo.d). skew:
    K[0, 1].

    Variants that drivers write for the same lens are normalised by :func:`canonical_distortion`.
    Raises ValueError that names the field if a size, focal length, principal point or coefficient
    is implausible.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()
    skew: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if not 1 <= getattr(self, name) <= MAX_SIDE:
                raise ValueError(
                    f"camera {name} must be 1..{MAX_SIDE} pixels, got {getattr(self, name)}"
                )
        for name in ("fx", "fy"):
            value = getattr(self, name)
            if not (np.isfinite(value) and 0.05 * self.width < value < 100 * self.width):
                raise ValueError(
                    f"camera {name} must be a focal length in pixels, got {value} for width {self.width}"
                )
        for name, size in (("cx", self.width), ("cy", self.height)):
            value = getattr(self, name)
            if not (np.isfinite(value) and -size < value < 2 * size):
                raise ValueError(f"camera {name} must lie near the image, got {value}")
        if not abs(self.skew) <= LARGEST_SKEW * self.fx:
            raise ValueError(
                f"camera skew must be within {LARGEST_SKEW} of fx {self.fx:.6g}, got {self.skew}"
            )
        model, coefficients = canonical_distortion(self.distortion_model, self.distortion)
        object.__setattr__(self, "distortion_model", model)
        object.__setattr__(self, "distortion", coefficients)

    @property
    def matrix(self) -> Floats:
        """The intrinsic matrix K, (3, 3) float64."""
        return np.array([[self.fx, self.skew, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def pinhole(self) -> PinholeDict:
        """The camera without distortion and skew, as poselib takes it."""
        return {
            "model": "PINHOLE",
            "width": self.width,
            "height": self.height,
            "params": [self.fx, self.fy, self.cx, self.cy],
        }

    @property
    def is_distorted(self) -> bool:
        """Whether images differ from those of a pinhole camera. Those of an equidistant lens always
        do, even if all coefficients are zero.
        """
        return any(self.distortion) or self.distortion_model == "equidistant" or bool(self.skew)

    def undistorted(self) -> "Camera":
        """Return the camera of images after :func:`undistort`: the same size, focal lengths and
        principal point, no distortion and no skew.
        """
        return replace(self, distortion_model="", distortion=(), skew=0.0)

    def scaled(self, width: int, height: int) -> "Camera":
        """Return the camera of images resized to width x height (pixel centres at integers)."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            skew=self.skew * sx,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def project(self, points: ArrayLike) -> Floats:
        """Project points (..., 3) in the camera frame, metres, to pixels (..., 2), without
        distortion and skew.
        """
        points = np.asarray(points, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels: Floats = points[..., :2] / points[..., 2:] * (self.fx, self.fy)
            return pixels + (self.cx, self.cy)

    def projection_jacobian(self, points: ArrayLike) -> Floats:
        """Return the Jacobian (N, 2, 3) of :meth:`project` at points (N, 3) in front of the camera,
        pixels per metre.
        """
        x, y, z = np.asarray(points, float).T
        out = np.zeros((len(z), 2, 3))
        out[:, 0, 0], out[:, 0, 2] = self.fx / z, -self.fx * x / z**2
        out[:, 1, 1], out[:, 1, 2] = self.fy / z, -self.fy * y / z**2
        return out

    def unproject(self, pixels: ArrayLike, depth: ArrayLike) -> Floats:
        """Return the points (..., 3) in the camera frame, metres, of undistorted pixels (..., 2)
        with depth (...,) along z, metres.
        """
        pixels, depth = np.asarray(pixels, float), np.asarray(depth, float)
        rays = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        return np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


def canonical_distortion(
    model: str, coefficients: Sequence[float]
) -> tuple[str, tuple[float, ...]]:
    """Normalise distortion_model and d of a CameraInfo to a name in COEFFICIENTS and as many
    coefficients as that model has, for the same lens.

    Coefficients are in OpenCV's order, so trailing zeros carry no information (plumb_bob with 8
    from Orbbec, fisheye with 5 from RealSense). A plumb_bob with more nonzero coefficients is what
    OpenCV calls rational_polynomial, and a rational_polynomial with 4 or 5 is a plumb_bob. Raises
    ValueError if the meaning is unknown or ambiguous.
    """
    if len(coefficients) > MAX_COEFFICIENTS:
        raise ValueError(
            f"camera distortion must have at most {MAX_COEFFICIENTS} coefficients, got {len(coefficients)}"
        )
    given, d = model, tuple(float(value) for value in coefficients)
    model = OTHER_NAMES.get(model, model)
    if model not in COEFFICIENTS:
        known = ", ".join(sorted(filter(None, [*COEFFICIENTS, *OTHER_NAMES])))
        raise ValueError(f"camera distortion_model '{model[:80]}' is unknown; known: {known}")
    if not np.all(np.isfinite(d)):
        raise ValueError("camera distortion holds NaN or infinity")
    if model == "equidistant" and not d:
        raise ValueError(
            f"camera distortion_model '{given}' without coefficients is ambiguous: give four coefficients (zeros are allowed), or "
            "plumb_bob if the image is rectified"
        )
    if model != "equidistant" and not any(d):
        return model, d
    most = COEFFICIENTS[model][-1]
    if not any(d[most:]):
        d = d[:most]
    for other, counts in COEFFICIENTS.items():
        if {model, other} == {"plumb_bob", "rational_polynomial"} and len(d) in counts:
            model = other
            break
    if len(d) not in COEFFICIENTS[model]:
        expected = " or ".join(map(str, COEFFICIENTS[model]))
        raise ValueError(
            f"camera distortion_model '{given}' takes {expected} coefficients, got {len(d)}"
        )
    return model, d


def rectifying_maps(
    camera: Camera, rotation: np.ndarray, projection: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return maps x, y (height, width) float32 for cv2.remap: where each pixel of a rectified
    pinhole camera lies in the image of `camera`.

    rotation (3, 3): from `camera` to the rectified camera; projection (3, 3) or (3, 4): K of the
    rectified camera, which has the same image size.
    """
    make = (
        cv2.fisheye.initUndistortRectifyMap
        if camera.distortion_model == "equidistant"
        else cv2.initUndistortRectifyMap
    )
    size, coefficients = (camera.width, camera.height), np.array(camera.distortion)
    x, y = make(camera.matrix, coefficients, rotation, projection, size, cv2.CV_32FC1)
    # OpenCV does not model skew
    return x + np.float32(camera.skew / camera.fy) * (y - np.float32(camera.cy)), y


def undistorted_rays(
    camera: Camera, pixels: ArrayLike, rotation: np.ndarray | None = None
) -> Floats:
    """Return x / z and y / z (..., 2) of the rays of distorted pixels (..., 2), rotated by
    `rotation` (3, 3) if given.
    """
    pixels = np.array(pixels, float)
    pixels[..., 0] -= camera.skew / camera.fy * (pixels[..., 1] - camera.cy)
    undistort_points = (
        cv2.fisheye.undistortPoints
        if camera.distortion_model == "equidistant"
        else cv2.undistortPoints
    )
    rays = undistort_points(
        pixels.reshape(-1, 1, 2),
        camera.matrix,
        np.array(camera.distortion),
        R=np.eye(3) if rotation is None else rotation,
    )
    return np.asarray(rays, float).reshape(pixels.shape)


@lru_cache(maxsize=16)
def _undistortion_maps(camera: Camera, nearest: bool) -> tuple[np.ndarray, np.ndarray]:
    maps = rectifying_maps(camera, np.eye(3), camera.undistorted().matrix)
    # without nninterpolation, cv2.remap would truncate the coordinates instead of rounding them
    return cv2.convertMaps(*maps, cv2.CV_16SC2, nninterpolation=nearest)


def undistort(image: np.ndarray, camera: Camera, nearest: bool = False) -> np.ndarray:
    """Resample an image (height, width[, 3]) of `camera` to that of `camera.undistorted()`.

    nearest: for depth maps, whose values must not be interpolated across edges. Raises ValueError
    if the size differs from the camera's.
    """
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"image is {image.shape[1]}x{image.shape[0]}, but its camera is {camera.width}x{camera.height}"
        )
    if not camera.is_distorted:
        return image
    return cv2.remap(
        image,
        *_undistortion_maps(camera, nearest),
        cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
    )
