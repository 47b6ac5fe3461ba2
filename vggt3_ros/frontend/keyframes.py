"""Track a recording and yield keyframes, as a front end would send them."""

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from vggt3_ros.frontend.rgbd_odometry import RgbdOdometry, Tracked
from vggt3_ros.frontend.selection import KeyframeSelector, SelectionConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe

_log = logging.getLogger(__name__)


class Recording(Protocol):
    """Images and depth with one camera; load_depth is None if there is no depth at all."""

    @property
    def name(self) -> str: ...
    @property
    def camera(self) -> Camera: ...
    @property
    def stamps_ns(self) -> np.ndarray: ...
    @property
    def load_image(self) -> Callable[[int], np.ndarray]: ...
    @property
    def load_depth(self) -> Callable[[int], np.ndarray | None] | None: ...


class Tracker(Protocol):
    """RgbdOdometry or TrackerProcess."""

    def track(
        self, image: np.ndarray, depth: np.ndarray, camera: Camera, stamp_ns: int
    ) -> Tracked: ...


def tracked_keyframes(
    recording: Recording, limits: SelectionConfig | None = None, tracker: Tracker | None = None
) -> Iterator[Keyframe]:
    """Yield the keyframes of a recording with depth as they are tracked.

    limits: which frames become keyframes; None: every frame. tracker: a fresh RgbdOdometry (the
    default) or TrackerProcess. Frames without depth and frames in which tracking is lost are left
    out. If the motion since the previous keyframe was not measured throughout, the keyframe has an
    odometry_covariance. Raises ValueError if the recording has no depth at all.
    """
    load_depth = recording.load_depth
    if load_depth is None:
        raise ValueError(
            f"{recording.name} has no depth: this odometry needs a depth camera or a stereo pair"
        )
    tracker, selector = tracker or RgbdOdometry(), KeyframeSelector()
    chain = count = 0
    lost: np.ndarray | None = None
    for index, stamp_ns in enumerate(recording.stamps_ns.tolist()):
        image, depth = recording.load_image(index), load_depth(index)
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
