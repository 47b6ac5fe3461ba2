"""A recorded front end's poses at the images, by the pose track that the node also uses: jumps are
bridged, gaps are kept, covariances are used.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.frontend.pose_track import PoseTrack, TrackedPose, motion_covariance

PAIRING = PairingConfig()  # the default of all readers
SHOWN = 5  # jumps that are logged individually
_log = logging.getLogger(__name__)


def track_of(
    stamps_ns: np.ndarray,
    poses: np.ndarray | Sequence[np.ndarray],
    pairing: PairingConfig,
    where: str | Path,
    covariances: np.ndarray | Sequence[np.ndarray] | None = None,
    lost: Iterable[int] = (),
) -> PoseTrack:
    """Return the PoseTrack of poses (N, 4, 4) at (N,) stamps in any order.

    covariances: (N, 6, 6) or None. lost: stamps at which the front end was lost. Of poses with
    equal stamps the first counts. where: the source, as named in log messages.
    """
    order = np.argsort(stamps_ns, kind="stable")
    order = order[np.diff(np.asarray(stamps_ns)[order], prepend=-1) > 0]
    track = PoseTrack(
        pairing.gap_ns, pairing.jump_translation, pairing.jump_rotation, history=None
    )
    jumps = track.add_all(
        np.asarray(stamps_ns)[order],
        np.asarray(poses)[order],
        None if covariances is None else np.asarray(covariances)[order],
    )
    for stamp_ns in lost:
        track.lose(int(stamp_ns))
    for stamp_ns, (metres, radians) in jumps[:SHOWN]:
        _log.warning(
            "%s: the poses jumped by %.2f m, %.2f rad at %.3f s: bridged",
            where,
            metres,
            radians,
            stamp_ns / 1e9,
        )
    if len(jumps) > SHOWN:
        _log.warning("%s: %d more jumps of the poses were bridged", where, len(jumps) - SHOWN)
    if len(order) < len(stamps_ns):
        _log.warning(
            "%s: skipped %d of %d poses: their stamps are duplicates",
            where,
            len(stamps_ns) - len(order),
            len(stamps_ns),
        )
    return track


class OdometryAtImages:
    """A PoseTrack evaluated at the images' stamps (N,).

    T_body_cam: pose of the camera in the frame that the track's poses describe, (4, 4) or (N, 4,
    4), NaN where unknown. T_odom_cam: (N, 4, 4), NaN where unknown.
    """

    def __init__(self, track: PoseTrack, stamps_ns: np.ndarray, T_body_cam: np.ndarray) -> None:
        self._T_body_cam = np.broadcast_to(T_body_cam, (len(stamps_ns), 4, 4))
        self._found = [track.at(int(stamp_ns)) for stamp_ns in stamps_ns]
        self.T_odom_cam = np.full((len(stamps_ns), 4, 4), np.nan)
        for i, found in enumerate(self._found):
            if isinstance(found, TrackedPose):
                self.T_odom_cam[i] = found.T_kept_body @ self._T_body_cam[i]

    @property
    def known(self) -> np.ndarray:
        """Mask (N,) of the images with a known pose."""
        mask: np.ndarray = np.isfinite(self.T_odom_cam).all(axis=(1, 2))
        return mask

    def motion(self, earlier: int, later: int) -> np.ndarray | None:
        """Return the covariance (6, 6) of the camera's motion between two images, as in
        Keyframe.odometry_covariance, or None.
        """
        before, after = self._found[earlier], self._found[later]
        if not (isinstance(before, TrackedPose) and isinstance(after, TrackedPose)):
            return None  # one of them has no pose
        return motion_covariance(before, after, self._T_body_cam[later])
