"""One bad message in a bag costs that message: it is left out, counted and named by topic and
time; the others are read.
"""

import numpy as np
import pytest
from plain_bags import START, STEP, write_plain

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.rosbag import read_rosbag
from vggt3_ros.geometry import se3

POSES = se3.exp(np.array([[0.03 * i, 0.01 * i, 0, 0, 0, 0.02 * i] for i in range(8)]))
EVERY = Options(every_frame=True)


def spoilt(kind):
    """odometry(message, i): the fifth says that the front end is lost."""

    def odometry(message, i):
        if i == 4:
            pose = message.pose.pose
            for name in "xyzw":
                object.__setattr__(pose.orientation, name, 0.0 if kind == "null" else np.nan)
            for name in "xyz":
                object.__setattr__(pose.position, name, 0.0)
            message.pose.covariance[:] = np.diag([9999.0] * 6).ravel()
        return message

    return odometry


@pytest.mark.parametrize("kind, reason", [("null", "the front end was lost"), ("nan", "NaN")])
def test_a_lost_pose_leaves_its_image_without_one(tmp_path, caplog, kind, reason):
    """Also where those before and after would be near enough to interpolate between: the front end
    said that it does not know.
    """
    path = write_plain(tmp_path / "bag", POSES, odometry=spoilt(kind))
    recording = read_rosbag(path)
    known = np.isfinite(recording.T_odom_cam).all(axis=(1, 2))
    assert known.tolist() == [True] * 4 + [False] + [True] * 3
    np.testing.assert_allclose(recording.T_odom_cam[known], POSES[known], atol=1e-9)
    assert len(open_dataset(path, EVERY)) == 7
    assert (
        f"skipped 1 of the messages on /odom; the first at {(START + 4 * STEP) / 1e9:.3f} s"
        in caplog.text
        and reason in caplog.text
    )


def _stamped(message, stamp_ns):
    message.header.stamp.sec, message.header.stamp.nanosec = stamp_ns // 10**9, stamp_ns % 10**9
    return message


def test_a_truncated_image_is_left_out_and_named(tmp_path, caplog):
    def image(message, i):
        if i == 2:
            message.data = message.data[:1000]
        return message

    sequence = open_dataset(write_plain(tmp_path / "bag", POSES, image=image), EVERY)
    assert len(sequence) == 7 and len([keyframe.image for keyframe in sequence.keyframes]) == 7
    assert (
        "/image" in caplog.text
        and f"{(START + 2 * STEP) / 1e9:.3f} s" in caplog.text
        and "1000 bytes" in caplog.text
    )


def test_an_image_of_another_size_is_left_out_and_named(tmp_path, caplog):
    def image(message, i):
        if i == 2:
            message.width, message.step, message.data = 32, 96, message.data[: 96 * 48]
        return message

    assert len(open_dataset(write_plain(tmp_path / "bag", POSES, image=image), EVERY)) == 7
    assert "image is 32x48, but camera_info says 64x48" in caplog.text


@pytest.mark.parametrize(
    "stamp, expected",
    [(lambda i: 0, "stamp is zero"), (lambda i: START, "an earlier image has the same stamp")],
)
def test_stamps_that_are_none_or_one_are_told_of(tmp_path, caplog, stamp, expected):
    path = write_plain(tmp_path / "bag", POSES, stamp=stamp)
    if stamp(0):
        assert len(open_dataset(path, EVERY)) == 1
        assert "skipped 7 of the messages on /image" in caplog.text and expected in caplog.text
    else:
        with pytest.raises(
            ValueError, match=f"all 8 messages on /image are invalid; .*{expected}"
        ):
            open_dataset(path, EVERY)


def test_when_no_pose_can_be_read_the_reason_is_said(tmp_path):
    def lost(message, i):
        for name in "xyzw":
            object.__setattr__(message.pose.pose.orientation, name, 0.0)
        return message

    with pytest.raises(
        ValueError, match="all 8 messages on /odom are invalid; the first at .* lost"
    ):
        open_dataset(write_plain(tmp_path / "bag", POSES, odometry=lost), EVERY)


def test_bad_keyframes_cost_themselves_alone(tmp_path, caplog):
    from bags import Bag
    from layouts import keyframe_message
    from random_keyframes import make_keyframe

    with Bag(tmp_path / "bag") as bag:
        for i in range(6):
            frame = make_keyframe(i, START + i * STEP)
            message = keyframe_message(
                bag,
                frame,
                np.round(frame.depth * 1000).astype(np.uint16),
                bag.header(frame.stamp_ns, "camera"),
            )
            if i == 1:
                object.__setattr__(message.t_odom_camera.position, "x", np.nan)
            if i == 2:
                message.image.data = message.image.data[:100]
            if i == 3:
                message.odometry_covariance[0] = np.nan
            bag.write("/keyframes", "vggt3_ros/msg/Keyframe", message, frame.stamp_ns)
    sequence = open_dataset(tmp_path / "bag")
    assert len(sequence) == 3 and len([keyframe.depth for keyframe in sequence.keyframes]) == 3
    assert (
        "skipped 3 of the messages on /keyframes" in caplog.text
        and "t_odom_camera.position holds NaN" in caplog.text
    )


def test_a_keyframe_whose_depth_names_another_frame_is_refused(tmp_path):
    from bags import Bag
    from layouts import keyframe_message
    from random_keyframes import make_keyframe

    with Bag(tmp_path / "bag") as bag:
        frame = make_keyframe(0, START)
        message = keyframe_message(
            bag, frame, np.round(frame.depth * 1000).astype(np.uint16), bag.header(START, "camera")
        )
        message.depth.header = bag.header(START, "depth")
        bag.write("/keyframes", "vggt3_ros/msg/Keyframe", message, START)
    with pytest.raises(
        ValueError, match="depth.header.frame_id is 'depth', but its image is in 'camera'"
    ):
        open_dataset(tmp_path / "bag")
