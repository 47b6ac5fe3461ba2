"""A recorded front end's poses are taken as the node takes them live: jumps bridged, covariances
believed, in bags and folders alike.
"""

import numpy as np
import pytest
from plain_bags import START, STEP, write_plain

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.odometry import OdometryAtImages, track_of
from vggt3_ros.datasets.tum import match_trajectory
from vggt3_ros.datasets.tum_files import write_trajectory_tum
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.frontend.pose_track import PoseTrack, motion_covariance
from vggt3_ros.geometry import se3

EVERY = Options(every_frame=True)
TRUE = se3.exp(
    np.array([[0.05 * i, 0.02 * np.sin(i), 0, 0, 0.01 * i, 0.03 * i] for i in range(12)])
)
JUMPED = np.concatenate([TRUE[:6], se3.exp([5.0, -1, 0, 0, 0, 0.8]) @ TRUE[6:]])
STAMPS = START + np.arange(12) * STEP


def assert_bridged(T_odom_cam):
    """What is left of the jump is what a step may deviate from steady motion."""
    motion = se3.inverse(T_odom_cam[:-1]) @ T_odom_cam[1:]
    difference = se3.inverse(se3.inverse(TRUE[:-1]) @ TRUE[1:]) @ motion
    assert (
        np.linalg.norm(difference[:, :3, 3], axis=1).max() < 0.06
        and se3.rotation_angle(difference).max() < 0.06
    )


def test_a_jump_in_a_bag_is_bridged_and_its_motion_known_no_better_than_that(tmp_path, caplog):
    sequence = open_dataset(write_plain(tmp_path / "bag", JUMPED), EVERY)
    assert_bridged(sequence.T_odom_cam)
    assert (
        f"at {STAMPS[6] / 1e9:.3f} s: bridged" in caplog.text and caplog.text.count("bridged") == 1
    )
    covariances = [keyframe.odometry_covariance for keyframe in sequence.keyframes]
    assert [k for k, covariance in enumerate(covariances) if covariance is not None] == [6]
    assert np.sqrt(covariances[6][0, 0]) >= 0.1


def test_a_jump_in_a_trajectory_file_is_bridged_and_may_be_left(tmp_path, caplog):
    bag, file = write_plain(tmp_path / "bag", TRUE), tmp_path / "odometry.txt"
    write_trajectory_tum(file, STAMPS, JUMPED)
    sequence = open_dataset(bag, Options(every_frame=True, odometry=file))
    assert_bridged(sequence.T_odom_cam)
    assert (
        sequence.keyframes[6].odometry_covariance is not None
        and sequence.keyframes[5].odometry_covariance is None
    )
    assert "jumped by" in caplog.text
    never = PairingConfig(jump_translation=0.0, jump_rotation=0.0)
    left = open_dataset(bag, Options(every_frame=True, odometry=file, pairing=never))
    np.testing.assert_allclose(left.T_odom_cam, JUMPED, atol=1e-6)


@pytest.mark.parametrize("kept", [slice(None), slice(None, None, 3)])
def test_growing_covariances_of_a_bag_become_those_of_the_motions_between_keyframes(
    tmp_path, kept
):
    """As the node has them for the same messages; also between keyframes that are not
    neighbours.
    """
    noise = np.diag([1e-4, 2e-4, 3e-4, 1e-5, 1e-5, 1e-5])

    def odometry(message, i):
        message.pose.covariance[:] = (noise * (1 + i)).ravel()
        return message

    path = write_plain(tmp_path / "bag", TRUE, odometry=odometry)
    live = PoseTrack(10**9, 0.1, 0.1)
    for i, stamp_ns in enumerate(STAMPS):
        live.add(int(stamp_ns), TRUE[i], noise * (1 + i))
    rows = np.arange(12)[kept]
    if len(rows) == 12:
        options = EVERY
    else:
        from vggt3_ros.frontend.selection import SelectionConfig

        options = Options(
            limits=SelectionConfig(
                translation=0.0, rotation=0.0, overlap=0.0, shortest=0.0, longest=0.3
            )
        )
    keyframes = open_dataset(path, options).keyframes
    assert keyframes.stamps_ns.tolist() == STAMPS[kept].tolist()
    assert keyframes[0].odometry_covariance is None
    for k in range(1, len(rows)):
        expected = motion_covariance(
            live.at(int(STAMPS[rows[k - 1]])), live.at(int(STAMPS[rows[k]])), np.eye(4)
        )
        np.testing.assert_allclose(
            keyframes[k].odometry_covariance, expected, rtol=1e-6, atol=1e-15
        )


def test_constant_covariances_say_nothing(tmp_path):
    def odometry(message, i):
        message.pose.covariance[:] = (0.01 * np.eye(6)).ravel()
        return message

    assert all(
        k.odometry_covariance is None
        for k in open_dataset(
            write_plain(tmp_path / "bag", TRUE, odometry=odometry), EVERY
        ).keyframes
    )


def test_many_at_once_are_as_one_by_one():
    rng = np.random.default_rng(0)
    stamps = START + np.cumsum(rng.integers(5, 60, 300)) * 1_000_000
    seconds = (stamps - START) / 1e9
    poses = se3.exp(
        np.stack(
            [
                seconds,
                np.sin(seconds),
                0 * seconds,
                0 * seconds,
                0.2 * np.sin(2 * seconds),
                0.5 * seconds,
            ],
            axis=1,
        )
    )
    for at in (80, 81, 200):
        poses[at:] = se3.exp(rng.normal(0, 1, 6)) @ poses[at:]
    covariances = np.cumsum(np.tile(np.diag([1e-4] * 6), (300, 1, 1)), axis=0)
    singly, together = PoseTrack(10**9, 0.1, 0.1), PoseTrack(10**9, 0.1, 0.1, history=None)
    jumps = [
        (int(s), jump)
        for s, pose, c in zip(stamps, poses, covariances)
        if (jump := singly.add(int(s), pose, c))
    ]
    assert together.add_all(stamps, poses, covariances) == jumps and len(jumps) == 3
    for stamp_ns in stamps.tolist():
        np.testing.assert_array_equal(
            singly.at(stamp_ns).T_kept_body, together.at(stamp_ns).T_kept_body
        )
        np.testing.assert_array_equal(
            singly.at(stamp_ns).covariance, together.at(stamp_ns).covariance
        )


def test_poses_in_any_order_with_one_stamp_twice(caplog):
    order = np.random.default_rng(0).permutation(12)
    track = track_of(
        np.append(STAMPS[order], STAMPS[3]),
        np.concatenate([TRUE[order], [np.eye(4)]]),
        PairingConfig(),
        "made",
    )
    found = OdometryAtImages(track, STAMPS, np.eye(4))
    np.testing.assert_allclose(found.T_odom_cam, TRUE, atol=1e-12)
    assert "skipped 1 of 13 poses: their stamps are duplicates" in caplog.text


def test_a_file_of_another_clock_is_refused_with_the_offset_and_mended_by_it(tmp_path):
    file = tmp_path / "odometry.txt"
    write_trajectory_tum(file, STAMPS + 7_250_000_000, TRUE)
    with pytest.raises(
        ValueError,
        match=r"no pose stamp is within 20 ms of an image.*--time-offset odometry=-7.250",
    ):
        match_trajectory(file, STAMPS)
    of_image, found = match_trajectory(file, STAMPS, offset_ns=-7_250_000_000)
    assert len(of_image) == 12
    np.testing.assert_allclose(found.T_odom_cam, TRUE, atol=1e-6)
