"""A recorded front end's poses at the images, by the track that the node uses, too: jumps bridged,
gaps kept, covariances believed.
"""

import logging

import numpy as np

from vggt3_ros.frontend.pose_track import PoseTrack, TrackedPose, motion_covariance

SHOWN = 5  # jumps that are told of one by one
_log = logging.getLogger(__name__)


def track_of(stamps_ns, poses, pairing, where, covariances=None, lost=()):
    """Poses (N, 4, 4) at (N,) stamps in any order, covariances (N, 6, 6) or None, stamps at which
    the front end was lost -> PoseTrack.

    Of those with one stamp the first counts. where: for people, in what the log says of jumps.
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
        _log.warning("%s: %d more jumps of the poses are bridged", where, len(jumps) - SHOWN)
    if len(order) < len(stamps_ns):
        _log.warning(
            "%s: %d of %d poses are left out: another has the same stamp",
            where,
            len(stamps_ns) - len(order),
            len(stamps_ns),
        )
    return track


class OdometryAtImages:
    """A PoseTrack at the images' stamps (N,). T_body_cam: where the camera sits on what the poses
    are of, (4, 4) or (N, 4, 4), NaN where unknown. T_odom_cam (N, 4, 4): NaN where nothing is
    known.
    """

    def __init__(self, track, stamps_ns, T_body_cam):
        self._T_body_cam = np.broadcast_to(T_body_cam, (len(stamps_ns), 4, 4))
        self._found = [track.at(int(stamp_ns)) for stamp_ns in stamps_ns]
        self.T_odom_cam = np.full((len(stamps_ns), 4, 4), np.nan)
        for i, found in enumerate(self._found):
            if isinstance(found, TrackedPose):
                self.T_odom_cam[i] = found.T_kept_body @ self._T_body_cam[i]

    @property
    def known(self):
        """Mask (N,) of the images at which a pose is known."""
        return np.isfinite(self.T_odom_cam).all(axis=(1, 2))

    def motion(self, earlier, later):
        """Covariance (6, 6) of the camera's motion from one image to another as in
        Keyframe.odometry_covariance, or None.
        """
        return motion_covariance(self._found[earlier], self._found[later], self._T_body_cam[later])
