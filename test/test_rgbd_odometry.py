"""The example front end tracks rendered images, says when it is lost, and goes on."""

import numpy as np
import pytest

from vggt3_ros.datasets.recording import Recording
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.frontend.keyframes import tracked_keyframes
from vggt3_ros.frontend.rgbd_odometry import RgbdOdometry
from vggt3_ros.geometry import se3
from vggt3_ros.mapping.selection import SelectionConfig


def recording(rendered, frames, depth=True):
    some = [rendered.keyframes[i] for i in frames]
    stamps = np.arange(len(some)) * 10**9 + 10**9
    return Recording("rendered", rendered.camera, stamps, lambda i: some[i].image, (lambda i: some[i].depth) if depth else None)


def test_it_tracks_the_rendered_walk(rendered):
    frames = list(tracked_keyframes(recording(rendered, range(16))))
    assert [frame.id for frame in frames] == list(range(16))
    assert all(frame.odometry_covariance is None for frame in frames)  # never lost
    truth = rendered.T_world_cam[:16]
    error = trajectory_error(np.array([frame.T_odom_cam for frame in frames]), truth, rendered.stamps_ns[:16])
    assert error.ate_m < 0.05 and error.rotation_deg < 2  # of a path of 4 m
    np.testing.assert_allclose(frames[0].T_odom_cam, np.eye(4))


def test_lost_it_stays_says_so_and_goes_on(rendered):
    camera, odometry = rendered.camera, RgbdOdometry()
    first, second = rendered.keyframes[0], rendered.keyframes[1]
    odometry.track(first.image, first.depth, camera)
    blank = odometry.track(np.zeros_like(first.image), first.depth, camera)
    assert blank.inliers == 0 and blank.covariance[0, 0] > 0.1
    np.testing.assert_allclose(blank.T_odom_cam, np.eye(4))
    after = odometry.track(second.image, second.depth, camera)
    assert after.inliers > 50 and after.covariance is None  # what was seen before the blank image is found again
    truth = se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_cam[1]
    assert np.linalg.norm((se3.inverse(truth) @ after.T_odom_cam)[:3, 3]) < 0.03


def test_in_a_new_place_it_goes_on_from_where_it_was_lost(rendered):
    """The camera is carried off: what comes after is measured again, from a place it does not know."""
    frames, odometry = [rendered.keyframes[i] for i in (0, 20, 21)], RgbdOdometry()
    tracked = [odometry.track(frame.image, frame.depth, rendered.camera) for frame in frames]
    assert tracked[1].inliers == 0 and tracked[1].covariance is not None
    assert tracked[2].inliers > 50 and tracked[2].covariance is None
    truth = se3.inverse(rendered.T_world_cam[20]) @ rendered.T_world_cam[21]
    motion = se3.inverse(tracked[1].T_odom_cam) @ tracked[2].T_odom_cam
    assert np.linalg.norm((se3.inverse(truth) @ motion)[:3, 3]) < 0.04


def test_keyframes_are_chosen_and_carry_the_loss_before_them(rendered):
    """A still camera gives one keyframe; the loss of track in between reaches the next keyframe that is sent."""
    still = list(tracked_keyframes(recording(rendered, [0, 0, 0, 0]), SelectionConfig()))
    assert len(still) == 1
    frames = recording(rendered, [0, 0, 1, 1, 3])
    dark = Recording("dark", frames.camera, frames.stamps_ns, lambda i: frames.load_image(i) * (i != 1), frames.load_depth)
    sent = list(tracked_keyframes(dark, SelectionConfig(translation=0.1, rotation=0.1)))
    assert len(sent) >= 2 and any(frame.odometry_covariance is not None for frame in sent[1:])


def test_depth_is_needed(rendered):
    with pytest.raises(ValueError, match="has no depth"):
        next(tracked_keyframes(recording(rendered, [0], depth=False)))
