"""The common form of every data set: all frames of one camera, before keyframes are selected."""

from collections.abc import Callable
from collections.abc import Sequence as AnySequence
from dataclasses import dataclass, field

import numpy as np

from vggt3_ros.datasets.sequence import KeyframeList, Query, Sequence
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.levels import Levels
from vggt3_ros.store.stored_poses import spanning


@dataclass(frozen=True, eq=False)
class Recording:
    """Frames 0..N-1, whose images are loaded on demand.

    stamps_ns: (N,) int64, increasing. load_image(i) returns (height, width, 3) uint8 RGB.
    load_depth(i) returns (height, width) float32 metres or None; load_depth is None if the data
    set has no depth. T_odom_cam, T_world_cam: (N, 4, 4) odometry and truth, NaN where unknown, or
    None if absent. covariances: (N, 6, 6) as in Keyframe.odometry_covariance, zeros where not
    given, or None. Alternatively motion(i, j) returns the covariance (6, 6) of the motion from
    frame i to a later frame j, or None. levels: Levels of its images, which queries share. chosen:
    the frames already are a front end's keyframes. T_file_cam: (4, 4) rotation from this camera to
    the one whose poses trajectory files hold; not the identity if the reader rectifies.
    """

    name: str
    camera: Camera
    stamps_ns: np.ndarray
    load_image: Callable[[int], np.ndarray]
    load_depth: Callable[[int], np.ndarray | None] | None = None
    T_odom_cam: np.ndarray | None = None
    T_world_cam: np.ndarray | None = None
    covariances: np.ndarray | None = None
    chosen: bool = False
    motion: Callable[[int, int], np.ndarray | None] | None = None
    levels: Levels | None = None
    T_file_cam: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def keyframes(
        self,
        indices: np.ndarray,
        T_odom_cam: np.ndarray,
        T_world_cam: np.ndarray | None = None,
        queries: AnySequence[Query] = (),
    ) -> Sequence:
        """Return the Sequence of the frames `indices` (K,), with odometry T_odom_cam (K, 4, 4) and
        truth T_world_cam (K, 4, 4) or None.
        """
        indices = np.asarray(indices, int)
        read_depth = self.load_depth
        load_depth = None if read_depth is None else lambda i: read_depth(int(indices[i]))
        frames = KeyframeList(
            self.camera,
            self.stamps_ns[indices],
            T_odom_cam,
            lambda i: self.load_image(int(indices[i])),
            load_depth,
            self._covariances(indices),
        )
        return Sequence(self.name, self.camera, frames.stamps_ns, frames, T_world_cam, queries)

    def _covariances(self, indices: np.ndarray) -> np.ndarray | None:
        """Return the covariances (K, 6, 6) of the motions between consecutive frames of `indices`,
        or None.
        """
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


def _stacked(covariances: AnySequence[np.ndarray | None]) -> np.ndarray:
    return np.array(
        [np.zeros((6, 6)) if covariance is None else covariance for covariance in covariances]
    ).reshape(-1, 6, 6)
