"""The common form of data sets for evaluation: keyframes with odometry, their truth if known, and
query images.
"""

import collections.abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe


class KeyframeList(collections.abc.Sequence[Keyframe]):
    """Keyframes 0..N-1 whose images are loaded anew at each access: keep those you need.

    stamps_ns: (N,) int64, increasing. T_odom_cam: (N, 4, 4). load_image(i) returns (height, width,
    3) uint8 RGB. load_depth(i) returns (height, width) float32 metres, or None; load_depth is None
    without a depth camera. odometry_covariances: (N, 6, 6) as in Keyframe.odometry_covariance,
    zeros where not given, or None. Raise ValueError if lengths differ or stamps do not increase.
    """

    def __init__(
        self,
        camera: Camera,
        stamps_ns: np.ndarray,
        T_odom_cam: np.ndarray,
        load_image: Callable[[int], np.ndarray],
        load_depth: Callable[[int], np.ndarray | None] | None = None,
        odometry_covariances: np.ndarray | None = None,
    ) -> None:
        self.camera = camera
        self.stamps_ns = _stamps(stamps_ns)
        self.T_odom_cam = _poses(T_odom_cam, len(self.stamps_ns), "T_odom_cam")
        self.load_image, self.load_depth = load_image, load_depth
        self.odometry_covariances = odometry_covariances
        if odometry_covariances is not None and np.shape(odometry_covariances) != (
            len(self),
            6,
            6,
        ):
            raise ValueError(
                f"odometry_covariances must have shape ({len(self)}, 6, 6), got {np.shape(odometry_covariances)}"
            )

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @overload
    def __getitem__(self, index: int) -> Keyframe: ...

    @overload
    def __getitem__(self, index: slice) -> list[Keyframe]: ...

    def __getitem__(self, index: int | slice) -> Keyframe | list[Keyframe]:
        """Return a Keyframe for an int, a list of them for a slice; images are loaded now."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        # raises IndexError out of bounds; negative indices count from the end
        index = range(len(self))[index]
        covariance = (
            None if self.odometry_covariances is None else self.odometry_covariances[index]
        )
        return Keyframe(
            id=index,
            stamp_ns=int(self.stamps_ns[index]),
            image=self.load_image(index),
            camera=self.camera,
            T_odom_cam=self.T_odom_cam[index],
            depth=self.load_depth(index) if self.load_depth else None,
            odometry_covariance=covariance
            if covariance is not None and np.any(covariance)
            else None,
        )


@dataclass(frozen=True, eq=False)
class Query:
    """An image to localize. load_image() returns (height, width, 3) uint8 RGB; T_world_cam: (4, 4)
    truth, None if unknown.
    """

    stamp_ns: int
    load_image: Callable[[], np.ndarray]
    T_world_cam: np.ndarray | None = None

    @property
    def image(self) -> np.ndarray:
        return self.load_image()


@dataclass(frozen=True, eq=False)
class Sequence:
    """A recorded or rendered run through one scene, as a front end's keyframes.

    camera: of keyframes and queries. stamps_ns: (N,) int64. keyframes: N Keyframes with ids
    0..N-1, loaded on demand. groundtruth: (N, 4, 4) T_world_cam of the keyframes, NaN where
    unknown, or None. queries: images to localize. Raise ValueError if lengths differ.
    """

    name: str
    camera: Camera
    stamps_ns: np.ndarray
    keyframes: KeyframeList
    groundtruth: np.ndarray | None = None
    queries: collections.abc.Sequence[Query] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamps_ns", _stamps(self.stamps_ns))
        if len(self.keyframes) != len(self.stamps_ns):
            raise ValueError(
                f"{self.name}: {len(self.keyframes)} keyframes but {len(self.stamps_ns)} stamps"
            )
        if self.groundtruth is not None:
            object.__setattr__(
                self, "groundtruth", _poses(self.groundtruth, len(self.stamps_ns), "groundtruth")
            )

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def T_odom_cam(self) -> np.ndarray:
        """Odometry (N, 4, 4) of the keyframes; loads no images."""
        return self.keyframes.T_odom_cam


def _stamps(stamps_ns: np.ndarray) -> np.ndarray:
    stamps_ns = np.asarray(stamps_ns, np.int64)
    if stamps_ns.ndim != 1 or np.any(np.diff(stamps_ns) <= 0):
        raise ValueError("stamps_ns must be a one-dimensional array of increasing nanoseconds")
    return stamps_ns


def _poses(poses: np.ndarray, count: int, name: str) -> np.ndarray:
    poses = np.asarray(poses, float)
    if poses.shape != (count, 4, 4):
        raise ValueError(f"{name} must have shape ({count}, 4, 4), got {poses.shape}")
    return poses
