"""A recording tracked frame by frame -> the keyframes a front end sends."""

import logging

from vggt3_ros.frontend.rgbd_odometry import RgbdOdometry
from vggt3_ros.frontend.selection import KeyframeSelector
from vggt3_ros.store.keyframe import Keyframe

_log = logging.getLogger(__name__)


def tracked_keyframes(recording, limits=None, tracker=None):
    """Yield the Keyframes of a Recording with depth, one by one as they are tracked. limits:
    SelectionConfig; None: every frame. tracker: a RgbdOdometry (the default) or TrackerProcess
    that has seen nothing yet.

    A frame without depth is left out, and so is one that the tracker is lost in: a pose that is
    none helps nobody. A keyframe whose motion since the last one was not measured all the way says
    so by its covariance. ValueError when the recording has none at all.
    """
    if recording.load_depth is None:
        raise ValueError(
            f"{recording.name} has no depth: this odometry needs a depth camera or a stereo pair"
        )
    tracker, selector, chain, count, lost = (
        tracker or RgbdOdometry(),
        KeyframeSelector(),
        0,
        0,
        None,
    )
    for index, stamp_ns in enumerate(recording.stamps_ns.tolist()):
        image, depth = recording.load_image(index), recording.load_depth(index)
        if depth is None:
            continue
        tracked = tracker.track(image, depth, recording.camera, stamp_ns)
        if tracked.chain is None:
            if count:
                _log.warning("frame %d at %.3f s: tracking lost", index, stamp_ns / 1e9)
            lost = tracked.covariance
            continue
        uncertain = (
            (lost if tracked.covariance is None else tracked.covariance)
            if count and tracked.chain != chain
            else None
        )
        if limits is not None and not selector.reason(
            stamp_ns, tracked.T_odom_cam, recording.camera, limits
        ):
            continue
        keyframe = Keyframe(
            count, stamp_ns, image, recording.camera, tracked.T_odom_cam, depth, uncertain
        )
        selector.keep(stamp_ns, keyframe.T_odom_cam, keyframe.camera, keyframe.depth)
        chain, count = tracked.chain, count + 1
        yield keyframe
