"""Which images of a stream become keyframes: those that have moved, turned or see something new
since the last one.
"""

import math
from dataclasses import dataclass

import numpy as np

from vggt3_ros.config import Checked, value
from vggt3_ros.frontend.synchronizer import RESTART_NS
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort

GRID = 16, 12  # columns, rows of the points that predict the overlap
LEAST_KNOWN = 0.1  # share of them with depth; with less, all are put at the assumed depth


@dataclass(frozen=True)
class SelectionConfig(Checked):
    """Which images of plain topics become keyframes: those that pass one of these."""

    translation: float = value(
        0.2,
        "Motion since the last keyframe that makes another; 0: not looked at",
        "m",
        0.0,
        1000.0,
    )
    rotation: float = value(
        0.25,
        "Turn since the last keyframe that makes another; 0: not looked at",
        "rad",
        0.0,
        math.pi,
    )
    overlap: float = value(
        0.7,
        "Least share of what the last keyframe saw that is still seen; 0: not looked at",
        "",
        0.0,
        1.0,
    )
    shortest: float = value(0.1, "Time that must pass between two keyframes", "s", 0.0, 3600.0)
    longest: float = value(
        0.0, "Time after which there is another, moved or not; 0: not looked at", "s", 0.0, 86400.0
    )
    depth: float = value(
        3.0, "Distance of the scene where no depth is measured, for the overlap", "m", 0.05, 1000.0
    )


class KeyframeSelector:
    """Ask :meth:`reason`, then tell it of what was taken with :meth:`keep`."""

    def __init__(self):
        self._stamp_ns = self._pose = self._points = None

    def reason(self, stamp_ns, T_odom_cam, camera, limits):
        """Why this image is a keyframe: "first", "translation", "rotation", "overlap", "time"; ""
        when it is none. "clock": it is more than a second older than the last keyframe: a clock or
        a bag began again, and whoever stores keyframes refuses it with that reason, which is more
        than to pass it over; less than that, it came late.
        """
        if self._pose is None:
            return "first"
        seconds = (stamp_ns - self._stamp_ns) / 1e9
        if self._stamp_ns - stamp_ns > RESTART_NS:
            return "clock"
        if seconds < limits.shortest or seconds <= 0:
            return ""
        motion = se3.inverse(self._pose) @ T_odom_cam
        if limits.translation and np.linalg.norm(motion[:3, 3]) >= limits.translation:
            return "translation"
        if limits.rotation and se3.rotation_angle(motion) >= limits.rotation:
            return "rotation"
        if limits.overlap and self._overlap(motion, camera, limits.depth) < limits.overlap:
            return "overlap"
        return "time" if limits.longest and seconds >= limits.longest else ""

    def keep(self, stamp_ns, T_odom_cam, camera, depth=None):
        """The last keyframe is this one. depth: (height, width) metres as in Keyframe, or None."""
        self._stamp_ns, self._pose, self._points = stamp_ns, T_odom_cam, grid_points(camera, depth)

    @property
    def newest_ns(self):
        """Stamp of the last keyframe, None before the first."""
        return None if self._pose is None else self._stamp_ns

    def forget(self):
        """The next image is the first."""
        self._pose = None

    def _overlap(self, motion, camera, assumed_depth):
        """Share of the last keyframe's points that lie in the image of a camera moved by `motion`
        = T_last_now.
        """
        rays, depth = self._points
        points = rays * (np.full(len(rays), assumed_depth) if depth is None else depth)[:, None]
        seen = se3.transform_points(se3.inverse(motion), points)
        pixels = camera.project(seen)
        with np.errstate(invalid="ignore"):
            inside = (seen[:, 2] > 0.01) & np.all(
                (pixels > -0.5) & (pixels < (camera.width - 0.5, camera.height - 0.5)), axis=1
            )
        return inside.mean()


def grid_points(camera, depth=None):
    """(rays (K, 3) with z = 1, depth (K,) metres) of a grid over the undistorted image; depth None
    where too little is known.
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
    return (rays[known], measured[known]) if known.mean() >= LEAST_KNOWN else (rays, None)
