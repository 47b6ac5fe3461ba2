"""The example front end tracks rendered images, reports when it is lost, and resumes."""

import numpy as np
import pytest

from vggt3_ros.datasets.recording import Recording
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.frontend.keyframes import tracked_keyframes
from vggt3_ros.frontend.rgbd_odometry import RgbdOdometry
from vggt3_ros.frontend.selection import SelectionConfig
from vggt3_ros.geometry import se3


def recording(rendered, frames, depth=True):
    some = [rendered.keyframes[i] for i in frames]
    stamps = np.arange(len(some)) * 10**9 + 10**9
    return Recording(
        "rendered",
        rendered.camera,
        stamps,
        lambda i: some[i].image,
        (lambda i: some[i].depth) if depth else None,
    )


def test_it_tracks_the_rendered_walk(rendered):
    frames = list(tracked_keyframes(recording(rendered, range(16))))
    assert [frame.id for frame in frames] == list(range(16))
    assert all(frame.odometry_covariance is None for frame in frames)  # never lost
    truth = rendered.T_world_cam[:16]
    error = trajectory_error(
        np.array([frame.T_odom_cam for frame in frames]), truth, rendered.stamps_ns[:16]
    )
    assert error.ate_m < 0.05 and error.rotation_deg < 2  # of a path of 4 m
    np.testing.assert_allclose(frames[0].T_odom_cam, np.eye(4))


def test_a_lost_camera_is_reported_and_tracking_resumes(rendered):
    camera, odometry = rendered.camera, RgbdOdometry()
    first, second = rendered.keyframes[0], rendered.keyframes[1]
    odometry.track(first.image, first.depth, camera)
    blank = odometry.track(np.zeros_like(first.image), first.depth, camera)
    assert blank.inliers == 0 and blank.covariance[0, 0] > 0.1
    np.testing.assert_allclose(blank.T_odom_cam, np.eye(4))
    after = odometry.track(second.image, second.depth, camera)
    # what was seen before the blank image is found again
    assert after.inliers > 50 and after.covariance is None
    truth = se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_cam[1]
    assert np.linalg.norm((se3.inverse(truth) @ after.T_odom_cam)[:3, 3]) < 0.03


def test_in_a_new_place_it_continues_from_the_extrapolated_pose(rendered):
    """The camera is carried off: what comes after is measured again, from a place it does not
    know.
    """
    frames, odometry = [rendered.keyframes[i] for i in (0, 20, 21)], RgbdOdometry()
    tracked = [odometry.track(frame.image, frame.depth, rendered.camera) for frame in frames]
    assert tracked[1].inliers == 0 and tracked[1].covariance is not None
    assert tracked[2].inliers > 50 and tracked[2].covariance is None
    truth = se3.inverse(rendered.T_world_cam[20]) @ rendered.T_world_cam[21]
    motion = se3.inverse(tracked[1].T_odom_cam) @ tracked[2].T_odom_cam
    assert np.linalg.norm((se3.inverse(truth) @ motion)[:3, 3]) < 0.04


def darkened(rendered, frames, dark):
    """A recording of these frames, those at the places `dark` black."""
    seen = recording(rendered, frames)
    return Recording(
        "dark",
        seen.camera,
        seen.stamps_ns,
        lambda i: seen.load_image(i) * (i not in dark),
        seen.load_depth,
    )


def test_keyframes_are_chosen_and_carry_the_loss_before_them(rendered):
    """A still camera gives one keyframe; a loss of track that nothing bridges reaches the next
    keyframe that is sent, and only that.
    """
    still = list(tracked_keyframes(recording(rendered, [0, 0, 0, 0]), SelectionConfig()))
    assert len(still) == 1
    sent = list(
        tracked_keyframes(
            darkened(rendered, [0, 1, 2, 20, 20, 21, 22], {3}),
            SelectionConfig(translation=0.1, rotation=0.1),
        )
    )
    # 20 is seen for the first time: where it is, nobody knows. From there on, motion is measured
    # again.
    assert [frame.odometry_covariance is not None for frame in sent] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert sent[3].odometry_covariance[0, 0] > 0.1
    truth = se3.inverse(rendered.T_world_cam[21]) @ rendered.T_world_cam[22]
    motion = se3.inverse(sent[3].T_odom_cam) @ sent[4].T_odom_cam
    assert np.linalg.norm((se3.inverse(truth) @ motion)[:3, 3]) < 0.04


def test_lost_frames_are_omitted_and_recognised_ones_are_measured(
    rendered,
):
    frames, dark = [0, 1, 2, 3, 3, 4, 5], {3, 4}
    sent = list(tracked_keyframes(darkened(rendered, frames, dark)))
    stamps = recording(rendered, frames).stamps_ns
    assert [frame.stamp_ns for frame in sent] == [
        int(stamps[i]) for i in range(7) if i not in dark
    ]
    assert all(frame.odometry_covariance is None for frame in sent)
    truth, motion = (
        se3.inverse(T[2]) @ T[3]
        for T in (rendered.T_world_cam[[0, 1, 2, 4, 5]], [frame.T_odom_cam for frame in sent])
    )
    assert np.linalg.norm((se3.inverse(truth) @ motion)[:3, 3]) < 0.05


def test_a_lost_camera_is_extrapolated_for_a_few_frames(rendered):
    odometry = RgbdOdometry()
    before, moving = [
        odometry.track(keyframe.image, keyframe.depth, rendered.camera).T_odom_cam
        for keyframe in rendered.keyframes[:4]
    ][-2:]
    keyframe = rendered.keyframes[3]
    dark = [
        odometry.track(np.zeros_like(keyframe.image), keyframe.depth, rendered.camera)
        for _ in range(8)
    ]
    assert all(lost.chain is None and lost.covariance[0, 0] > 0.1 for lost in dark)
    np.testing.assert_allclose(
        se3.inverse(moving) @ dark[0].T_odom_cam, se3.inverse(before) @ moving, atol=1e-6
    )
    np.testing.assert_allclose(dark[-1].T_odom_cam, dark[-2].T_odom_cam, atol=1e-9)  # not for ever


def test_an_earlier_place_is_recognised(rendered):
    """The camera is carried off, tracked there, and carried back: what it sees then is measured
    against where it was.
    """
    odometry, chains = RgbdOdometry(), []
    for i in (0, 1, 20, 21, 1):
        keyframe = rendered.keyframes[i]
        tracked = odometry.track(keyframe.image, keyframe.depth, rendered.camera)
        chains.append(tracked.chain)
    assert chains == [0, 0, None, 1, 0] and tracked.covariance is None
    truth = se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_cam[1]
    assert np.linalg.norm((se3.inverse(truth) @ tracked.T_odom_cam)[:3, 3]) < 0.04


def test_depth_is_needed(rendered):
    with pytest.raises(ValueError, match="has no depth"):
        next(tracked_keyframes(recording(rendered, [0], depth=False)))
