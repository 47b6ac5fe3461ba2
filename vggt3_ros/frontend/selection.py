"""Keyframe selection: an image becomes a keyframe if the camera has moved, turned, or sees
something new since the last one.
"""

import dataclasses
import math

import numpy as np
from pydantic.dataclasses import dataclass

from vggt3_ros.frontend.synchronizer import RESTART_NS
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.geometry.se3 import Floats
from vggt3_ros.system.checked import Checked, value

GRID = 16, 12  # columns and rows of the points that predict the overlap
MIN_KNOWN = 0.1  # share of them with depth; below it, the assumed depth is used for all


@dataclass(frozen=True)
class SelectionConfig(Checked):
    """When an image of plain topics becomes a keyframe: when it passes one of these limits."""

    translation: float = value(
        0.2,
        "Motion since the last keyframe that triggers another; 0: ignored",
        "m",
        0.0,
        1000.0,
    )
    rotation: float = value(
        0.25,
        "Rotation since the last keyframe that triggers another; 0: ignored",
        "rad",
        0.0,
        math.pi,
    )
    overlap: float = value(
        0.7,
        "A keyframe is triggered when less than this share of the last one's view is still visible; 0: ignored",
        "",
        0.0,
        1.0,
    )
    shortest: float = value(0.1, "Shortest time between two keyframes", "s", 0.0, 3600.0)
    longest: float = value(
        0.0,
        "Time after which another keyframe is triggered, moved or not; 0: ignored",
        "s",
        0.0,
        86400.0,
    )
    depth: float = value(
        3.0, "Assumed depth for the overlap where none is measured", "m", 0.05, 1000.0
    )


class KeyframeSelector:
    """Select keyframes: call :meth:`reason` for each image, and :meth:`keep` for each one taken."""

    def __init__(self) -> None:
        self._last: _Last | None = None

    def reason(
        self, stamp_ns: int, T_odom_cam: Floats, camera: Camera, limits: SelectionConfig
    ) -> str:
        """Return why an image is a keyframe: "first", "translation", "rotation", "overlap" or
        "time"; "" if it is none.

        "clock": it is more than a second older than the last keyframe, so a clock or a bag was
        restarted. The store then refuses it with a message, rather than it being skipped silently.
        An image that is older by less arrived late and is skipped.
        """
        if self._last is None:
            return "first"
        seconds = (stamp_ns - self._last.stamp_ns) / 1e9
        if self._last.stamp_ns - stamp_ns > RESTART_NS:
            return "clock"
        if seconds < limits.shortest or seconds <= 0:
            return ""
        motion = se3.inverse(self._last.T_odom_cam) @ T_odom_cam
        if limits.translation and np.linalg.norm(motion[:3, 3]) >= limits.translation:
            return "translation"
        if limits.rotation and se3.rotation_angle(motion) >= limits.rotation:
            return "rotation"
        if limits.overlap and self._last.overlap(motion, camera, limits.depth) < limits.overlap:
            return "overlap"
        return "time" if limits.longest and seconds >= limits.longest else ""

    def keep(
        self, stamp_ns: int, T_odom_cam: Floats, camera: Camera, depth: np.ndarray | None = None
    ) -> None:
        """Make this image the last keyframe. depth: (height, width) metres as in Keyframe, or None."""
        self._last = _Last(stamp_ns, T_odom_cam, *grid_points(camera, depth))

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the last keyframe; None before the first."""
        return None if self._last is None else self._last.stamp_ns

    def forget(self) -> None:
        """Forget the last keyframe, so that the next image is the first."""
        self._last = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Last:
    """The last keyframe: stamp, pose and points of its view, see :func:`grid_points`."""

    stamp_ns: int
    T_odom_cam: Floats
    rays: np.ndarray
    depth: np.ndarray | None

    def overlap(self, motion: Floats, camera: Camera, assumed_depth: float) -> float:
        """Return the share of the points that lie in the image of a camera moved by `motion` =
        T_last_now (4, 4).
        """
        depth = np.full(len(self.rays), assumed_depth) if self.depth is None else self.depth
        points = self.rays * depth[:, None]
        seen = se3.transform_points(se3.inverse(motion), points)
        pixels = camera.project(seen)
        with np.errstate(invalid="ignore"):
            inside = (seen[:, 2] > 0.01) & np.all(
                (pixels > -0.5) & (pixels < (camera.width - 0.5, camera.height - 0.5)), axis=1
            )
        return float(inside.mean())


def grid_points(
    camera: Camera, depth: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return rays (K, 3) with z = 1 and depth (K,), metres, of a grid over the undistorted image;
    the depth is None if too few points have any.
    """
    columns, rows = GRID
    u = (np.arange(columns) + 0.5) * camera.width / columns - 0.5
    v = (np.arange(rows) + 0.5) * camera.height / rows - 0.5
    pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    rays = camera.unproject(pixels, np.ones(len(pixels)))
    if depth is None:
        return rays, None
    x, y = np.rint(pixels).astype(int).T
    measured = undistort(depth, camera, nearest=True)[
        y.clip(0, camera.height - 1), x.clip(0, camera.width - 1)
    ]
    known = np.isfinite(measured) & (measured > 0)
    return (rays[known], measured[known]) if known.mean() >= MIN_KNOWN else (rays, None)
