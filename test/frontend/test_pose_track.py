"""Poses at the stamps of images, bridged jumps, and covariances of the motion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vggt3_ros.frontend.pose_track import PoseTrack, TrackedPose, motion_covariance
from vggt3_ros.frontend.synchronizer import WAIT, Miss
from vggt3_ros.geometry import se3

MS = 1_000_000
TWIST = arrays(float, 6, elements=st.floats(-1, 1))


def walk(seconds, rate=30, speed=0.8):
    """(stamps_ns, T (N, 4, 4)) of a hand-held camera on a curved path."""
    t = np.arange(0, seconds, 1 / rate)
    twist = np.stack(
        [
            speed * np.sin(t),
            0.4 * speed * t,
            0.05 * np.sin(5 * t),
            0.2 * np.sin(3 * t),
            0.3 * np.cos(2 * t),
            0.5 * t,
        ],
        axis=1,
    )
    return np.rint(t * 1e9).astype(np.int64) + 10**18, se3.exp(twist)


def track_of(stamps, poses, **options):
    track = PoseTrack(200 * MS, **options)
    jumps = [track.add(int(stamp), pose) for stamp, pose in zip(stamps, poses)]
    return track, [jump for jump in jumps if jump]


@given(TWIST, TWIST, st.floats(0, 1))
def test_poses_are_interpolated_along_steady_motion(a, motion, share):
    first, second = se3.exp(a), se3.exp(a) @ se3.exp(motion)
    track, _ = track_of([0, 100 * MS], [first, second])
    found = track.at(int(share * 100 * MS)).T_kept_body
    np.testing.assert_allclose(
        found[:3, 3], first[:3, 3] + share * (second[:3, 3] - first[:3, 3]), atol=0.02 + 1e-9
    )
    np.testing.assert_allclose(
        se3.rotation_angle(se3.inverse(first) @ found),
        share * np.linalg.norm(motion[3:]),
        atol=0.02,
    )


def test_interpolated_poses_are_those_of_the_camera():
    stamps, poses = walk(3, rate=30)
    track, jumps = track_of(stamps[::3], poses[::3])
    middle = np.stack([track.at(int(stamp)).T_kept_body for stamp in stamps[1:-3]])
    difference = se3.inverse(middle) @ poses[1:-3]
    assert (
        np.linalg.norm(difference[:, :3, 3], axis=1).max() < 0.005
        and se3.rotation_angle(difference).max() < 0.02
        and not jumps
    )


def test_unknown_transforms_are_errors():
    track, _ = track_of([1000 * MS, 1100 * MS, 1500 * MS], np.tile(np.eye(4), (3, 1, 1)))
    assert track.at(1501 * MS + 1) is WAIT
    assert isinstance(track.at(900 * MS), Miss)
    assert track.at(1300 * MS) == Miss("the poses around it are 0.400 s apart")
    assert isinstance(track.at(1050 * MS), TrackedPose)
    # stamps rounded to milliseconds mean the same image
    assert isinstance(track.at(1501 * MS), TrackedPose)
    assert PoseTrack(MS).at(0) is WAIT


@pytest.mark.parametrize("rate", [10, 30, 200])
@pytest.mark.parametrize(
    "correction", [[0.3, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.3, 0], [-5, 2, 0.1, 0.1, 0, 2.5]]
)
def test_a_loop_closed_by_the_front_end_leaves_no_trace_in_the_motion(rate, correction):
    stamps, poses = walk(6, rate)
    at, moved = 4 * rate, se3.exp(np.array(correction))
    sent = np.concatenate([poses[:at], moved @ poses[at:]])
    track, jumps = track_of(stamps, sent, jump_translation=0.1, jump_rotation=0.1)
    assert len(jumps) == 1
    before, after = track.at(int(stamps[at - 2])), track.at(int(stamps[-1]))
    difference = (
        se3.inverse(se3.inverse(poses[at - 2]) @ poses[-1])
        @ se3.inverse(before.T_kept_body)
        @ after.T_kept_body
    )
    assert np.linalg.norm(difference[:3, 3]) < 0.05 and se3.rotation_angle(difference) < 0.05
    np.testing.assert_allclose(track.T_kept_frontend @ sent[-1], after.T_kept_body, atol=1e-9)
    assert np.sqrt(after.bridged[0]) >= 0.1 and not before.bridged.any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 10, 30, 100]))
def test_noise_lost_messages_and_fast_motion_are_no_jumps(seed, rate):
    rng = np.random.default_rng(seed)
    stamps, poses = walk(4, rate, speed=1.5)
    poses = poses @ se3.exp(rng.normal(0, [0.004] * 3 + [0.004] * 3, (len(poses), 6)))
    arrived = rng.random(len(poses)) < 0.8
    _, jumps = track_of(stamps[arrived], poses[arrived], jump_translation=0.1, jump_rotation=0.1)
    assert not jumps


@pytest.mark.parametrize("rate", [5, 10, 30])
@pytest.mark.parametrize("standing_seconds", [0, 2])
def test_a_fast_start_costs_at_most_one_step(rate, standing_seconds):
    """A car that drives when the first pose comes, a simulated robot that starts from one pose to
    the next.
    """
    speed = 8.0
    t = np.arange(0, 4, 1 / rate)
    twist = np.zeros((len(t), 6))
    twist[:, 0] = speed * np.maximum(0, t - standing_seconds)
    poses = se3.exp(twist) @ se3.exp([1.0, 2, 0, 0, 0, 0.7])
    track, jumps = track_of(
        np.rint(t * 1e9).astype(np.int64) + 10**18, poses, jump_translation=0.1, jump_rotation=0.1
    )
    assert len(jumps) <= 1
    kept = np.stack([pose.T_kept_body for pose in track._poses])
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(kept[-8:, :3, 3], axis=0), axis=1), speed / rate, rtol=1e-6
    )


def test_two_consecutive_jumps_are_both_bridged():
    stamps, poses = walk(4, 30)
    sent = poses.copy()
    sent[60:] = se3.exp([0.8, 0, 0, 0, 0, 0.2]) @ sent[60:]
    sent[61:] = se3.exp([0, -0.9, 0.4, 0, 0, -0.5]) @ sent[61:]
    track, jumps = track_of(stamps, sent, jump_translation=0.1, jump_rotation=0.1)
    assert len(jumps) == 2
    motion = (
        se3.inverse(track.at(int(stamps[58])).T_kept_body) @ track.at(int(stamps[-1])).T_kept_body
    )
    difference = se3.inverse(se3.inverse(poses[58]) @ poses[-1]) @ motion
    assert np.linalg.norm(difference[:3, 3]) < 0.05 and se3.rotation_angle(difference) < 0.05


def test_jumps_are_kept_when_detection_is_off():
    track, jumps = track_of([0, 33 * MS], [np.eye(4), se3.exp([5.0, 0, 0, 0, 0, 1])])
    assert not jumps
    np.testing.assert_array_equal(track.T_kept_frontend, np.eye(4))


def test_the_frame_of_the_last_run_continues():
    moved = se3.exp([1.0, 2, 3, 0.1, 0, 0])
    track, _ = track_of([0], [se3.exp([0, 0, 1.0, 0, 0, 0])], T_kept_frontend=moved)
    np.testing.assert_allclose(track.at(0).T_kept_body, moved @ se3.exp([0, 0, 1.0, 0, 0, 0]))


def test_a_clock_that_goes_back_restarts_the_track():
    track, jumps = track_of(
        [10**12, 10**12 + MS, 5 * 10**9],
        [np.eye(4), np.eye(4), se3.exp([9.0, 0, 0, 0, 0, 0])],
        jump_translation=0.1,
    )
    assert not jumps and track.newest_ns == 5 * 10**9


def test_covariance_of_the_motion_from_that_of_the_poses():
    """Poses with random errors of each step: what their covariances say of the motion between two
    is what it scatters by.
    """
    rng = np.random.default_rng(0)
    sigma = np.array([0.01, 0.02, 0.005, 0.003, 0.002, 0.01])
    steps = se3.exp(np.array([[0.3, 0.1, 0.05, 0.02, 0.1, 0.2]] * 6))
    T_body_cam = se3.exp([0.2, 0.1, 0.3, -1.2, 1.2, -1.2])
    runs = 8000
    walked = np.tile(np.eye(4), (runs, 1, 1))
    truth, poses, covariances = np.eye(4), [], []
    for step in steps:
        walked = walked @ step @ se3.exp(rng.normal(0, sigma, (runs, 6)))
        truth = truth @ step
        poses.append((truth, walked))
        # the errors in fixed axes, as ROS has them
        turned = se3.log(
            walked
            @ np.tile(
                np.block([[truth[:3, :3].T, np.zeros((3, 1))], [np.zeros((1, 3)), 1]]),
                (runs, 1, 1),
            )
        )[:, 3:]
        covariances.append(np.cov(np.hstack([walked[:, :3, 3] - truth[:3, 3], turned]).T))
    earlier, later = (TrackedPose(poses[i][0], covariances[i], np.zeros(6)) for i in (2, 5))
    found = motion_covariance(earlier, later, T_body_cam)
    motions = se3.inverse(poses[2][1] @ T_body_cam) @ poses[5][1] @ T_body_cam
    scatter = np.cov(
        se3.log(
            se3.inverse(se3.inverse(poses[2][0] @ T_body_cam) @ poses[5][0] @ T_body_cam) @ motions
        ).T
    )
    np.testing.assert_allclose(np.sqrt(np.diag(found)), np.sqrt(np.diag(scatter)), rtol=0.05)
    assert np.abs(np.linalg.solve(scatter, found) - np.eye(6)).max() < 0.5


@pytest.mark.parametrize(
    "first, second",
    [
        (np.diag([0.01] * 6), np.diag([0.01] * 6)),  # constant: many front ends
        (np.diag([0.02] * 6), np.diag([0.01] * 6)),  # shrinking: an absolute position came in
        # planar filters hold the rest at zero
        (np.diag([0.1, 0.1, 0, 0, 0, 0.1]), np.diag([0.2, 0.2, 0, 0, 0, 0.2])),
        (np.diag([0.1] * 6), np.diag([1e9] * 6)),
        (np.full((6, 6), np.nan), np.eye(6)),
        (None, np.eye(6)),
    ],
)
def test_covariances_without_information_are_ignored(first, second):
    poses = se3.exp(np.array([[0.0] * 6, [0.5, 0, 0, 0, 0, 0.3]]))
    assert (
        motion_covariance(
            TrackedPose(poses[0], first, np.zeros(6)),
            TrackedPose(poses[1], second, np.zeros(6)),
            np.eye(4),
        )
        is None
    )


def test_a_bridged_jump_adds_its_uncertainty():
    earlier = TrackedPose(np.eye(4), np.eye(6) * 1e-6, np.zeros(6))
    later = TrackedPose(np.eye(4), np.eye(6) * 2e-6, np.repeat([0.04, 0.01], 3))
    np.testing.assert_allclose(
        motion_covariance(earlier, later, np.eye(4)), np.diag([0.04] * 3 + [0.01] * 3)
    )


@pytest.mark.parametrize(
    "correction", [[0, 0, 0, 0, 0, np.pi / 2], [0.4, -2, 0.1, 0.8, -0.5, 2.0]]
)
def test_after_a_bridged_jump_covariances_are_in_the_kept_axes(correction):
    """An odometry that is sure along x of its frame and not along y closes a loop, which turns its
    frame: the same motion later is known as well along the same directions of the camera as
    without the jump.
    """
    stamps, poses = walk(6, 30)
    moved, at = se3.exp(np.array(correction)), 100
    rate = np.diag([1e-4, 9e-4, 4e-4, 1e-5, 4e-5, 9e-5])
    grown = [rate]
    # what is known of the heading moves the position with it
    for step in np.diff(poses[:, :3, 3], axis=0):
        carried = np.eye(6)
        carried[:3, 3:] = -np.cross(np.eye(3), step)
        grown.append(carried @ grown[-1] @ carried.T + rate)

    def motion(jump):
        track = PoseTrack(200 * MS, 0.1, 0.1)
        turn = np.kron(np.eye(2), jump[:3, :3])
        jumps = [
            track.add(
                int(stamp),
                pose if k < at else jump @ pose,
                covariance if k < at else turn @ covariance @ turn.T,
            )
            for k, (stamp, pose, covariance) in enumerate(zip(stamps, poses, grown))
        ]
        assert sum(j is not None for j in jumps) == (0 if jump is still else 1)
        return motion_covariance(
            track.at(int(stamps[120])),
            track.at(int(stamps[160])),
            se3.exp([0.2, 0.1, 0.3, -1.2, 1.2, -1.2]),
        )

    still = np.eye(4)
    plain, jumped = motion(still), motion(moved)
    # The pose after the jump is where steady motion leads, not quite where the camera was: so much
    # may be left.
    np.testing.assert_allclose(jumped, plain, atol=0.03 * np.abs(plain).max())
    assert plain[0, 0] > 1.5 * plain[1, 1] or plain[1, 1] > 1.5 * plain[0, 0]


def test_the_rotation_uncertainty_of_a_jump_has_the_lever_arm_of_the_camera():
    earlier = TrackedPose(np.eye(4), None, np.zeros(6))
    later = TrackedPose(se3.exp([0, 0, 0, 0, 0, 0.7]), None, np.repeat([0.04, 0.01], 3))
    rng, T_body_cam = np.random.default_rng(0), se3.exp([2.0, 0, 0.5, -1.2, 1.2, -1.2])
    body = later.T_kept_body @ se3.exp(rng.normal(0, np.repeat([0.2, 0.1], 3), (20000, 6)))
    scatter = np.cov(se3.log(se3.inverse(later.T_kept_body @ T_body_cam) @ body @ T_body_cam).T)
    np.testing.assert_allclose(
        motion_covariance(earlier, later, T_body_cam), scatter, atol=0.05 * scatter.max()
    )
