"""One bad message in a bag costs that message: it is left out, counted and named by topic and
time; the others are read.
"""

import numpy as np
import pytest
from plain_bags import CAMERA, START, STEP, write_plain

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.rosbag import read_rosbag
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.registration import registered_depth

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
        f"1 of the messages on /odom are left out; the first at {(START + 4 * STEP) / 1e9:.3f} s"
        in caplog.text
        and reason in caplog.text
    )


def test_an_image_between_two_poses_one_of_which_is_missing_is_known(tmp_path):
    """A message that was lost on its way says nothing: the gap is short enough."""
    path = write_plain(
        tmp_path / "bag",
        POSES,
        odometry=lambda message, i: message if i != 4 else _stamped(message, START + 3 * STEP),
    )
    assert np.isfinite(read_rosbag(path).T_odom_cam).all()


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
    [(lambda i: 0, "stamp is zero"), (lambda i: START, "stamp is that of an image before")],
)
def test_stamps_that_are_none_or_one_are_told_of(tmp_path, caplog, stamp, expected):
    path = write_plain(tmp_path / "bag", POSES, stamp=stamp)
    if stamp(0):
        assert len(open_dataset(path, EVERY)) == 1
        assert (
            "7 of the messages on /image are left out" in caplog.text and expected in caplog.text
        )
    else:
        with pytest.raises(ValueError, match=f"all 8 messages on /image are bad; .*{expected}"):
            open_dataset(path, EVERY)


def test_when_no_pose_can_be_read_the_reason_is_said(tmp_path):
    def lost(message, i):
        for name in "xyzw":
            object.__setattr__(message.pose.pose.orientation, name, 0.0)
        return message

    with pytest.raises(ValueError, match="all 8 messages on /odom are bad; the first at .* lost"):
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
        "3 of the messages on /keyframes are left out" in caplog.text
        and "t_odom_camera.position holds NaN" in caplog.text
    )


# frames
# ----------------------------------------------------------------------------------------------------------------------------


MOUNT = se3.from_quaternion([0.1, -0.05, 0.2], [-0.5, 0.5, -0.5, 0.5])
OF_BASE = POSES @ se3.inverse(MOUNT)
TIED = [("base_link", "camera", MOUNT)]


def test_odometry_that_does_not_say_what_moves_is_refused_until_it_is_said(tmp_path):
    path = write_plain(tmp_path / "bag", OF_BASE, child="", tf=TIED)
    with pytest.raises(
        ValueError, match="/odom names no child_frame_id.*--base-frame.*--camera-in-base"
    ):
        open_dataset(path, EVERY)
    for options in (
        Options(every_frame=True, base_frame="base_link"),
        Options(every_frame=True, T_base_cam=MOUNT),
    ):
        np.testing.assert_allclose(open_dataset(path, options).T_odom_cam, POSES, atol=1e-9)
    alone = write_plain(tmp_path / "alone", POSES, child="")
    np.testing.assert_allclose(
        open_dataset(alone, Options(every_frame=True, base_frame="camera")).T_odom_cam,
        POSES,
        atol=1e-9,
    )


def test_the_frame_of_the_images_counts_not_that_of_their_calibration(tmp_path):
    elsewhere = se3.exp([1.0, 2, 3, 0.5, 0, 0])
    path = write_plain(
        tmp_path / "bag",
        OF_BASE,
        child="base_link",
        info_frame="camera_link",
        tf=[*TIED, ("base_link", "camera_link", elsewhere)],
    )
    np.testing.assert_allclose(open_dataset(path, EVERY).T_odom_cam, POSES, atol=1e-9)
    unnamed = write_plain(
        tmp_path / "unnamed", OF_BASE, child="base_link", frame="", info_frame="camera", tf=TIED
    )
    np.testing.assert_allclose(open_dataset(unnamed, EVERY).T_odom_cam, POSES, atol=1e-9)


def test_infrared_of_10_bits_is_scaled_by_what_it_holds(tmp_path):
    bits = (np.random.default_rng(0).random((CAMERA.height, CAMERA.width)) * 1000).astype(
        np.uint16
    )

    def image(message, i):
        message.encoding, message.step = "mono16", 2 * CAMERA.width
        message.data = (bits // (8 if i == 0 else 1)).view(np.uint8).ravel()
        return message

    keyframes = open_dataset(write_plain(tmp_path / "bag", POSES, image=image), EVERY).keyframes
    np.testing.assert_array_equal(keyframes[0].image[..., 0], bits // 8 >> 2)
    np.testing.assert_array_equal(keyframes[5].image[..., 0], bits >> 2)


# depth
# -----------------------------------------------------------------------------------------------------------------------------


DEPTH_CAMERA = Camera(CAMERA.width, CAMERA.height, 44.0, 44.0, 32.0, 24.0)
T_CAM_DEPTH = se3.exp([0.05, 0.01, 0, 0, 0, 0.03])


def depth_writer(frame="depth", info=True, camera=DEPTH_CAMERA, topic="/depth/image", late_ns=0):
    counts = (
        np.random.default_rng(1)
        .integers(1000, 3000, (camera.height // 4, camera.width // 4))
        .repeat(4, 0)
        .repeat(4, 1)
        .astype(np.uint16)
    )

    def more(bag, i, stamp_ns):
        header = bag.header(stamp_ns + late_ns, frame)
        bag.write(topic, "sensor_msgs/msg/Image", bag.image(counts, "16UC1", header), stamp_ns)
        if info:
            bag.write(
                "/depth/camera_info",
                "sensor_msgs/msg/CameraInfo",
                bag.camera_info(camera, header),
                stamp_ns,
            )

    return more, counts.astype(np.float32) / 1000


def test_depth_of_another_frame_is_registered_by_its_calibration_and_tf(tmp_path):
    more, metres = depth_writer()
    path = write_plain(tmp_path / "bag", POSES, tf=[("camera", "depth", T_CAM_DEPTH)], more=more)
    found = open_dataset(path, EVERY).keyframes[2].depth
    np.testing.assert_array_equal(
        found, registered_depth(metres, DEPTH_CAMERA, CAMERA, T_CAM_DEPTH)
    )
    assert (found > 0).mean() > 0.5 and np.abs(found - metres).max() > 0.1


@pytest.mark.parametrize(
    "writer, tf, text",
    [
        (
            {},
            [],
            "depth is in 'depth', its image in 'camera', and neither /tf_static nor /tf connects",
        ),
        (
            {"info": False},
            [("camera", "depth", T_CAM_DEPTH)],
            "the depth has no camera_info of its own",
        ),
    ],
)
def test_depth_of_another_frame_that_cannot_be_registered_is_refused(tmp_path, writer, tf, text):
    path = write_plain(tmp_path / "bag", POSES, tf=tf, more=depth_writer(**writer)[0])
    with pytest.raises(ValueError, match=text):
        open_dataset(path, EVERY)


def test_depth_in_the_frame_of_the_image_but_of_another_calibration_is_registered(tmp_path):
    half = CAMERA.scaled(CAMERA.width // 2, CAMERA.height // 2)
    more, metres = depth_writer("camera", camera=half)
    found = open_dataset(write_plain(tmp_path / "bag", POSES, more=more), EVERY).keyframes[0].depth
    np.testing.assert_array_equal(found[8:-8, 8:-8], metres.repeat(2, 0).repeat(2, 1)[8:-8, 8:-8])


def test_depth_in_the_frame_of_the_image_is_taken_as_it_is(tmp_path):
    more, metres = depth_writer("/camera", camera=CAMERA)
    np.testing.assert_array_equal(
        open_dataset(write_plain(tmp_path / "bag", POSES, more=more), EVERY).keyframes[0].depth,
        metres,
    )


def test_depth_a_frame_late_is_refused_and_mended(tmp_path):
    path = write_plain(
        tmp_path / "bag", POSES, more=depth_writer("camera", camera=CAMERA, late_ns=33_000_000)[0]
    )
    with pytest.raises(
        ValueError,
        match="no depth is stamped within 20 ms of an image: .*--time-offset depth=-0.033",
    ):
        open_dataset(path, EVERY)
    for options in (
        Options(every_frame=True, time_offsets={"depth": -0.033}),
        Options(every_frame=True, pairing=PairingConfig(sync_tolerance=0.04)),
    ):
        assert all(
            keyframe.depth is not None for keyframe in open_dataset(path, options).keyframes
        )


def test_a_depth_topic_without_a_message_is_said(tmp_path, caplog):
    def more(bag, i, stamp_ns):
        if not i:
            bag._writer.add_connection(
                "/depth/image", "sensor_msgs/msg/Image", typestore=bag.types
            )

    sequence = open_dataset(write_plain(tmp_path / "bag", POSES, more=more), EVERY)
    assert sequence.keyframes[0].depth is None and "/depth/image holds no message" in caplog.text


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
