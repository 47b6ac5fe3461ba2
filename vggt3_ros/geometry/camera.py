"""Pinhole cameras with the distortion models of sensor_msgs/CameraInfo. OpenCV axes: x right, y
down, z forward.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

MAX_SIDE = 16384  # pixels; a larger image is a broken message, not a camera
# of an image that comes from outside; a flat JPEG of the longest sides is 4 MB, and 800 MB once it
# is decoded
MAX_PIXELS = 2**26
MAX_COEFFICIENTS = 14
COEFFICIENTS = {
    "": (0,),
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
# camera_calibration before Noetic, librealsense
OTHER_NAMES = {"fisheye": "equidistant", "kannala_brandt4": "equidistant"}
LARGEST_SKEW = 0.2  # of the focal length; sensors have a hundredth of it, a transposed matrix more


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels; `distortion` are the coefficients in CameraInfo.d of the named model;
    skew: K[0, 1].

    What drivers write otherwise with one meaning is brought to that meaning, see
    :func:`canonical_distortion`. Raises ValueError naming the field when a size, focal length,
    principal point or coefficient makes no sense.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = ""
    distortion: tuple = ()
    skew: float = 0.0

    def __post_init__(self):
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
    def matrix(self):
        """K, (3, 3) float64."""
        return np.array([[self.fx, self.skew, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def pinhole(self):
        """Without distortion, as poselib takes it."""
        return {
            "model": "PINHOLE",
            "width": self.width,
            "height": self.height,
            "params": [self.fx, self.fy, self.cx, self.cy],
        }

    @property
    def is_distorted(self):
        """Whether its images differ from those of a pinhole. An equidistant lens is none, whatever
        its coefficients.
        """
        return any(self.distortion) or self.distortion_model == "equidistant" or bool(self.skew)

    def undistorted(self):
        """The same camera without distortion and skew (same size and focal lengths): what images
        look like after :func:`undistort`.
        """
        return replace(self, distortion_model="", distortion=(), skew=0.0)

    def scaled(self, width, height):
        """The camera of the same image resized to width x height (pixel centres at integers)."""
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

    def project(self, points):
        """Points (..., 3) in the camera frame, metres -> pixels (..., 2); distortion is not
        applied.
        """
        points = np.asarray(points, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return points[..., :2] / points[..., 2:] * (self.fx, self.fy) + (self.cx, self.cy)

    def projection_jacobian(self, points):
        """(N, 2, 3) of :meth:`project` by points (N, 3) before the camera: pixels by metre."""
        x, y, z = np.asarray(points, float).T
        out = np.zeros((len(z), 2, 3))
        out[:, 0, 0], out[:, 0, 2] = self.fx / z, -self.fx * x / z**2
        out[:, 1, 1], out[:, 1, 2] = self.fy / z, -self.fy * y / z**2
        return out

    def unproject(self, pixels, depth):
        """Undistorted pixels (..., 2) and depth along z (...,), metres -> points (..., 3) in the
        camera frame.
        """
        pixels, depth = np.asarray(pixels, float), np.asarray(depth, float)
        rays = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        return np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


def canonical_distortion(model, coefficients):
    """(distortion_model, d) of a CameraInfo -> (one of COEFFICIENTS, tuple of as many floats), the
    same lens.

    Coefficients come in OpenCV's order, so that surplus zeros say nothing (Orbbec's plumb_bob of
    8, the five of RealSense's fisheye), a plumb_bob with more than that is what OpenCV calls
    rational_polynomial, and one of these with 4 or 5 a plumb_bob. ValueError for what has no
    meaning, or two.
    """
    if len(coefficients) > MAX_COEFFICIENTS:
        raise ValueError(
            f"camera distortion must have at most {MAX_COEFFICIENTS} coefficients, got {len(coefficients)}"
        )
    given, coefficients = model, tuple(float(d) for d in coefficients)
    model = OTHER_NAMES.get(model, model)
    if model not in COEFFICIENTS:
        known = ", ".join(sorted(filter(None, [*COEFFICIENTS, *OTHER_NAMES])))
        raise ValueError(f"camera distortion_model '{model[:80]}' is unknown; known: {known}")
    if not np.all(np.isfinite(coefficients)):
        raise ValueError("camera distortion holds NaN or infinity")
    if model == "equidistant" and not coefficients:
        raise ValueError(
            f"camera distortion_model '{given}' without coefficients may mean a lens or a rectified image: give four, zeros if "
            "need be, or plumb_bob for a rectified image"
        )
    if model != "equidistant" and not any(coefficients):
        return model, coefficients
    most = COEFFICIENTS[model][-1]
    if not any(coefficients[most:]):
        coefficients = coefficients[:most]
    for other, counts in COEFFICIENTS.items():
        if {model, other} == {"plumb_bob", "rational_polynomial"} and len(coefficients) in counts:
            model = other
            break
    if len(coefficients) not in COEFFICIENTS[model]:
        expected = " or ".join(map(str, COEFFICIENTS[model]))
        raise ValueError(
            f"camera distortion_model '{given}' takes {expected} coefficients, got {len(coefficients)}"
        )
    return model, coefficients


def rectifying_maps(camera, rotation, projection):
    """Where the pixels of another pinhole lie in the image of `camera`: x, y (height, width)
    float32.

    rotation (3, 3): from this camera to the other; projection (3, 3) or (3, 4): K of the other, of
    the same size.
    """
    make = (
        cv2.fisheye.initUndistortRectifyMap
        if camera.distortion_model == "equidistant"
        else cv2.initUndistortRectifyMap
    )
    size, coefficients = (camera.width, camera.height), np.array(camera.distortion)
    x, y = make(camera.matrix, coefficients, rotation, projection, size, cv2.CV_32FC1)
    # OpenCV knows of no skew
    return x + np.float32(camera.skew / camera.fy) * (y - np.float32(camera.cy)), y


def undistorted_rays(camera, pixels, rotation=np.eye(3)):
    """Pixels (..., 2) as the camera saw them -> (..., 2) x / z and y / z of their rays, turned by
    rotation (3, 3).
    """
    pixels = np.array(pixels, float)
    pixels[..., 0] -= camera.skew / camera.fy * (pixels[..., 1] - camera.cy)
    undistort_points = (
        cv2.fisheye.undistortPoints
        if camera.distortion_model == "equidistant"
        else cv2.undistortPoints
    )
    rays = undistort_points(
        pixels.reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion), R=rotation
    )
    return rays.reshape(pixels.shape)


@lru_cache(maxsize=16)
def _undistortion_maps(camera, nearest):
    maps = rectifying_maps(camera, np.eye(3), camera.undistorted().matrix)
    # rounded for the nearest: as they come they are cut off
    return cv2.convertMaps(*maps, cv2.CV_16SC2, nninterpolation=nearest)


def undistort(image, camera, nearest=False):
    """Image (height, width[, 3]) as the camera saw it -> as `camera.undistorted()` would have seen
    it.

    `nearest` keeps depth maps free of values mixed across edges. Raises ValueError when the size
    differs from the camera's.
    """
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"image is {image.shape[1]}x{image.shape[0]}, its camera {camera.width}x{camera.height}"
        )
    if not camera.is_distorted:
        return image
    return cv2.remap(
        image,
        *_undistortion_maps(camera, nearest),
        cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
    )
