"""Plain topics of a bag: which frame moves, where the camera sits, and depth of any frame."""

import numpy as np
import pytest
from bags import Bag
from layouts import BODY
from plain_bags import CAMERA, START, STEP, write_plain
from random_keyframes import make_keyframe

from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.rosbag import read_rosbag
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.registration import registered_depth

POSES = se3.exp(np.array([[0.03 * i, 0.01 * i, 0, 0, 0, 0.02 * i] for i in range(8)]))


EVERY = Options(every_frame=True)


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


MOUNT = se3.from_quaternion([0.1, -0.05, 0.2], [-0.5, 0.5, -0.5, 0.5])
OF_BASE = POSES @ se3.inverse(MOUNT)


TIED = [("base_link", "camera", MOUNT)]


def test_odometry_that_does_not_say_what_moves_is_refused_until_it_is_said(tmp_path):
    path = write_plain(tmp_path / "bag", OF_BASE, child="", tf=TIED)
    with pytest.raises(
        ValueError, match="/odom has no child_frame_id.*--base-frame.*--camera-in-base"
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
        match="no depth stamp is within 20 ms of an image: .*--time-offset depth=-0.033",
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
    assert sequence.keyframes[0].depth is None and "/depth/image has no messages" in caplog.text


IMAGE, INFO, ODOMETRY = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
)


def made(count=6):
    frames = [make_keyframe(id, START + id * 100_000_000, camera=CAMERA) for id in range(count)]
    poses = np.array([frame.T_odom_cam for frame in frames])
    keyframes = KeyframeList(
        CAMERA,
        [frame.stamp_ns for frame in frames],
        poses,
        lambda i: frames[i].image,
        lambda i: frames[i].depth,
    )
    return Sequence("random", CAMERA, keyframes.stamps_ns, keyframes, poses)


def test_odometry_is_interpolated_at_the_images(tmp_path):
    """Odometry at 20 Hz, half a period beside the images, of a body that moves evenly; then a gap
    of one second.
    """
    at = lambda seconds: (
        se3.exp(np.array([0.5 * seconds, 0.1 * seconds, 0, 0, 0, 0.4 * seconds])) @ BODY
    )
    with Bag(tmp_path / "bag") as bag:
        for i in range(10):
            stamp = START + i * 100_000_000
            header = bag.header(stamp, "camera")
            bag.write(
                "/camera/image",
                IMAGE,
                bag.image(made(1).keyframes[0].image, "bgr8", header),
                stamp,
            )
            bag.write("/camera/camera_info", INFO, bag.camera_info(CAMERA, header), stamp)
        for i in [*range(12), *range(32, 36)]:
            stamp = START + i * 50_000_000 + 25_000_000
            bag.write(
                "/odom",
                ODOMETRY,
                bag.odometry(
                    at(i * 0.05 + 0.025) @ se3.inverse(BODY), bag.header(stamp, "odom"), "base"
                ),
                stamp,
            )
    recording = read_rosbag(tmp_path / "bag", T_base_cam=BODY)
    known = np.isfinite(recording.T_odom_cam).all(axis=(1, 2))
    # before the first message, and in the gap
    assert known.tolist() == [False] + [True] * 5 + [False] * 4
    for i in np.flatnonzero(known):
        between = se3.inverse(at(i * 0.1)) @ recording.T_odom_cam[i]
        assert np.linalg.norm(between[:3, 3]) < 1e-3 and se3.rotation_angle(between) < 1e-6
    np.testing.assert_array_equal(recording.load_image(0), made(1).keyframes[0].image[..., ::-1])
    assert (
        recording.load_depth is None
        and len(open_dataset(tmp_path / "bag", Options(every_frame=True, T_base_cam=BODY))) == 5
    )


def test_a_camera_on_a_head_that_turns_is_where_it_was_when_the_image_was_taken(tmp_path):
    """The head's transform comes at 20 Hz between the images, ends before the last of them, and is
    on /tf alone.
    """
    head = lambda seconds: se3.exp([0, 0, 0.5, 0, 0, 0]) @ se3.exp([0, 0, 0, 0, 0, 0.7 * seconds])
    odometry = se3.exp([0.1, 0.2, 0, 0, 0, 0.3])
    with Bag(tmp_path / "bag") as bag:
        fixed = bag.make(
            "tf2_msgs/msg/TFMessage", transforms=[bag.transform("head", "camera", BODY, START)]
        )
        bag.write("/tf_static", "tf2_msgs/msg/TFMessage", fixed, START)
        for i in range(8):
            stamp = START + i * 100_000_000
            header = bag.header(stamp, "camera")
            bag.write(
                "/image", IMAGE, bag.image(made(1).keyframes[0].image, "bgr8", header), stamp
            )
            bag.write("/camera_info", INFO, bag.camera_info(CAMERA, header), stamp)
            bag.write(
                "/odom",
                ODOMETRY,
                bag.odometry(odometry, bag.header(stamp, "odom"), "base_link"),
                stamp,
            )
        for i in range(13):
            stamp = START + i * 50_000_000 + 10_000_000
            moving = bag.make(
                "tf2_msgs/msg/TFMessage",
                transforms=[bag.transform("base_link", "head", head(i * 0.05 + 0.01), stamp)],
            )
            bag.write("/tf", "tf2_msgs/msg/TFMessage", moving, stamp)
    recording = read_rosbag(tmp_path / "bag")
    known = np.isfinite(recording.T_odom_cam).all(axis=(1, 2))
    assert known.tolist() == [False] + [True] * 6 + [False]
    for i in np.flatnonzero(known):
        between = se3.inverse(odometry @ head(i * 0.1) @ BODY) @ recording.T_odom_cam[i]
        assert np.linalg.norm(between[:3, 3]) < 1e-6 and se3.rotation_angle(between) < 1e-6
    assert len(open_dataset(tmp_path / "bag", Options(every_frame=True))) == 6


def test_where_the_camera_sits_must_be_known(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        header = bag.header(START, "camera")
        bag.write(
            "/image", IMAGE, bag.image(np.zeros((48, 64, 3), np.uint8), "rgb8", header), START
        )
        bag.write("/camera_info", INFO, bag.camera_info(CAMERA, header), START)
        bag.write(
            "/odom",
            ODOMETRY,
            bag.odometry(np.eye(4), bag.header(START, "odom"), "base_link"),
            START,
        )
    with pytest.raises(
        ValueError,
        match="neither /tf_static nor /tf has a transform from 'camera' to 'base_link'.*--camera-in-base",
    ):
        read_rosbag(tmp_path / "bag")
