"""What every reader yields: all frames of one camera, before keyframes are chosen among them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.stored_poses import spanning


@dataclass(frozen=True, eq=False)
class Recording:
    """Frames 0..N-1, their images loaded when asked for.

    stamps_ns: (N,) int64, increasing. load_image(i) -> (height, width, 3) uint8 RGB; load_depth(i)
    -> (height, width) float32 metres or None, itself None without any depth. T_odom_cam,
    T_world_cam: (N, 4, 4) odometry and truth as far as the data set has them, NaN where unknown,
    or None. covariances: (N, 6, 6) as in Keyframe.odometry_covariance, zeros where not given, or
    None; instead of them motion(i, j) -> (6, 6) or None of the motion from frame i to a later one.
    levels: messages.levels.Levels of its images, which those to be localized in it share. chosen:
    the frames are a front end's keyframes already. T_file_cam: (4, 4) rotation of this camera in
    the one whose poses trajectory files hold, where the reader rectifies.
    """

    name: str
    camera: Camera
    stamps_ns: np.ndarray
    load_image: Callable
    load_depth: Callable | None = None
    T_odom_cam: np.ndarray | None = None
    T_world_cam: np.ndarray | None = None
    covariances: np.ndarray | None = None
    chosen: bool = False
    motion: Callable | None = None
    levels: object | None = None
    T_file_cam: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __len__(self):
        return len(self.stamps_ns)

    def keyframes(self, indices, T_odom_cam, T_world_cam=None, queries=()):
        """Sequence of the frames `indices` (K,), with odometry T_odom_cam (K, 4, 4) and truth
        T_world_cam (K, 4, 4) or None.
        """
        indices = np.asarray(indices, int)
        load_depth = (lambda i: self.load_depth(int(indices[i]))) if self.load_depth else None
        frames = KeyframeList(
            self.camera,
            self.stamps_ns[indices],
            T_odom_cam,
            lambda i: self.load_image(int(indices[i])),
            load_depth,
            self._covariances(indices),
        )
        return Sequence(self.name, self.camera, frames.stamps_ns, frames, T_world_cam, queries)

    def _covariances(self, indices):
        """(K, 6, 6) of the motions from one of the frames `indices` to the next, or None."""
        if self.motion is not None:
            found = [
                None,
                *(self.motion(i, j) for i, j in zip(indices[:-1].tolist(), indices[1:].tolist())),
            ][: len(indices)]
            return _stacked(found) if any(covariance is not None for covariance in found) else None
        if self.covariances is None:
            return None
        given = [covariance if covariance.any() else None for covariance in self.covariances]
        chosen = np.isin(np.arange(len(self)), indices)
        return _stacked(spanning(self.T_odom_cam, given, np.zeros(len(self)), chosen))


def _stacked(covariances):
    return np.array(
        [np.zeros((6, 6)) if covariance is None else covariance for covariance in covariances]
    ).reshape(-1, 6, 6)
