"""A keyframe as received from the front end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.se3 import Floats

MAX_DEPTH_M = 200.0


@dataclass(frozen=True, eq=False)
class Keyframe:
    """One image of the front end's track. Raises ValueError that names the invalid field.

    id: chosen by the front end, >= 0; an id sent again updates the pose. stamp_ns: time of
    exposure, integer nanoseconds. image: (height, width, 3) uint8 RGB, distorted. camera:
    intrinsics and distortion of `image`. T_odom_cam: (4, 4) from the camera (optical axes) to the
    front end's odometry frame, metres. depth: (height, width) float32, metres along z, registered
    to `image`, 0 or NaN where unknown; None without a sensor. odometry_covariance: (6, 6) of the
    motion since the previous keyframe, in this camera's frame, x y z rotX rotY rotZ, metres and
    radians; None: the configured odometry noise is used.
    """

    id: int
    stamp_ns: int
    image: np.ndarray
    camera: Camera
    T_odom_cam: np.ndarray
    depth: np.ndarray | None = None
    odometry_covariance: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.id < 2**63:
            raise ValueError(f"keyframe id must be 0..2^63-1, got {self.id}")
        if not 0 <= self.stamp_ns < 2**63:
            raise ValueError(f"keyframe stamp_ns must be nanoseconds >= 0, got {self.stamp_ns}")
        expected = (self.camera.height, self.camera.width)
        if self.image.dtype != np.uint8 or self.image.shape != expected + (3,):
            raise ValueError(
                f"keyframe image must be uint8 {expected + (3,)} (RGB) to match its camera, "
                f"got {self.image.dtype} {self.image.shape}"
            )
        object.__setattr__(self, "T_odom_cam", se3.check(self.T_odom_cam, "T_odom_cam"))
        if self.depth is not None:
            object.__setattr__(self, "depth", check_depth(self.depth, expected))
        if self.odometry_covariance is not None:
            object.__setattr__(
                self, "odometry_covariance", check_covariance(self.odometry_covariance)
            )


def check_depth(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return depth as float32 metres with 0 for unknown. Raises ValueError if it does not have
    `shape`, or if its values cannot be metres.
    """
    if depth.shape != shape:
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, but its image is {shape[1]}x{shape[0]}; register it to the image"
            if depth.ndim == 2
            else f"depth must have shape {shape}, got {depth.shape}"
        )
    depth = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
    # Counting is ten times cheaper than the median.
    far, count = np.count_nonzero(depth > MAX_DEPTH_M), np.count_nonzero(depth)
    if depth.min(initial=0) < 0 or 2 * far > count:
        known = depth[depth != 0]
        raise ValueError(
            f"depth must be metres along z (0 = unknown): its median is {np.median(known):.4g}, its minimum "
            f"{known.min():.4g}; divide 16-bit millimetres by 1000"
        )
    return depth


def check_covariance(covariance: ArrayLike, name: str = "odometry_covariance") -> Floats:
    """Return a symmetrised (6, 6) covariance. Raises ValueError that names `name` if it is not
    finite, symmetric and positive definite.
    """
    covariance = np.asarray(covariance, float)
    if covariance.shape != (6, 6) or not np.all(np.isfinite(covariance)):
        raise ValueError(f"{name} must be a finite 6x6 matrix")
    if (
        np.abs(covariance - covariance.T).max() > 1e-6 * np.abs(covariance).max()
        or np.linalg.eigvalsh(covariance).min() <= 0
    ):
        raise ValueError(f"{name} must be symmetric and positive definite")
    symmetric: Floats = 0.5 * (covariance + covariance.T)
    return symmetric
