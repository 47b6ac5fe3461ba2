"""What an adapter is given and what it answers. Needs numpy alone."""

from dataclasses import dataclass, field

import numpy as np

POSES = ("camera_from_world", "world_from_camera")
TAKES = ("intrinsics", "depth", "poses")  # what a network may be given beside images


@dataclass(frozen=True)
class About:
    """What an adapter says of itself. takes: of TAKES; patch: pixels that both sides of its images
    are a multiple of.
    """

    name: str
    weights: str
    licence: str
    device: str
    dtype: str
    takes: tuple = ()
    patch: int = 14


@dataclass(frozen=True, eq=False)
class View:
    """One image and what is known of it.

    image (H, W, 3) uint8 RGB, undistorted; intrinsics (3, 3) of it, pixel centres at integers;
    T_world_cam (4, 4), metres; depth (H, W) float32 metres along z, 0 unknown; each None where it
    is not known or not to be used. dense: whether depth is wanted.
    """

    image: np.ndarray
    intrinsics: np.ndarray | None = None
    T_world_cam: np.ndarray | None = None
    depth: np.ndarray | None = None
    dense: bool = False


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network makes of one view.

    pose (4, 4), None where it says nothing; intrinsics (3, 3) of the image given, or None; depth
    (h, w) along z of the whole image, or points (h, w, 3) instead; confidence (h, w), 1 for not
    sure at all and above, needed with them. points_frame: camera, or world: that of the poses.
    """

    pose: np.ndarray | None
    intrinsics: np.ndarray | None = None
    depth: np.ndarray | None = None
    confidence: np.ndarray | None = None
    points: np.ndarray | None = None
    points_frame: str = "camera"


@dataclass(frozen=True, eq=False)
class Answer:
    """seen: a Seen of each view, in order; poses: of POSES, what their poses are; metric: whether
    the network claims metres.
    """

    seen: list = field(default_factory=list)
    poses: str = POSES[0]
    metric: bool = False


def intrinsics_of(points):
    """(3, 3) pinhole of an image (h, w) from points (h, w, 3) in its camera's frame, or rays
    through its pixels; None without any.

    By least squares over the pixels: u = fx x / z + cx, and v likewise. For networks that predict
    rays and no camera.
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
