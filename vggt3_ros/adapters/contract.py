"""The interface of an adapter: what it receives and what it returns. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

POSES = ("camera_from_world", "world_from_camera")
TAKES = ("intrinsics", "depth", "poses")  # what a network may accept in addition to images


@dataclass(frozen=True)
class About:
    """What an adapter declares about itself. takes: a subset of TAKES; patch: both sides of its
    images are multiples of this many pixels.
    """

    name: str
    weights: str
    licence: str
    device: str
    dtype: str
    takes: tuple[str, ...] = ()
    patch: int = 14


@dataclass(frozen=True, eq=False)
class View:
    """One image and what is known about it.

    image: (H, W, 3) uint8 RGB, undistorted. intrinsics: (3, 3) of that image, pixel centres at
    integers. T_world_cam: (4, 4), metres. depth: (H, W) float32 metres along z, 0 where unknown.
    Each but the image is None if it is unknown or must not be used. dense: depth is requested.
    """

    image: np.ndarray
    intrinsics: np.ndarray | None = None
    T_world_cam: np.ndarray | None = None
    depth: np.ndarray | None = None
    dense: bool = False


@dataclass(frozen=True, eq=False)
class Seen:
    """The network's output for one view.

    pose: (4, 4), None if there is none. intrinsics: (3, 3) of the given image, or None. depth: (h,
    w) along z, covering the whole image; or points (h, w, 3) instead. confidence: (h, w), at least
    1, where 1 is the lowest; required with either. points_frame: "camera", or "world", the frame
    of the poses.
    """

    pose: np.ndarray | None
    intrinsics: np.ndarray | None = None
    depth: np.ndarray | None = None
    confidence: np.ndarray | None = None
    points: np.ndarray | None = None
    points_frame: str = "camera"


@dataclass(frozen=True, eq=False)
class Answer:
    """An adapter's answer. seen: a Seen per view, in order; poses: the direction of their poses,
    one of POSES; metric: the network claims that its units are metres.
    """

    seen: list[Seen] = field(default_factory=list)
    poses: str = POSES[0]
    metric: bool = False


class Adapter(Protocol):
    """An adapter class, once made: the attributes of About, and a call that answers for views."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def takes(self) -> Sequence[str]: ...

    @property
    def patch(self) -> int: ...

    def __call__(self, views: Sequence[View], progress: Callable[[float], None]) -> Answer: ...


def intrinsics_of(points: np.ndarray) -> np.ndarray | None:
    """Return the pinhole matrix (3, 3) of an image (h, w) from points (h, w, 3) in the camera's
    frame, or from rays through its pixels; None with fewer than 16 usable points.

    A least-squares fit over the pixels of u = fx x / z + cx, and likewise for v. For networks that
    predict rays but no camera.
    """
    v, u = np.mgrid[: points.shape[0], : points.shape[1]].astype(float)
    x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
    known = np.isfinite(points).all(axis=-1) & (z > 1e-6)
    if known.sum() < 16:
        return None
    matrix = np.eye(3)
    for row, (pixel, side) in enumerate(((u, x), (v, y))):
        slope = side[known] / z[known]
        if np.ptp(slope) < 1e-6:
            return None
        matrix[row, row], matrix[row, 2] = np.polyfit(slope, pixel[known], 1)
    return matrix
