"""Bags as robots record them: topics guessed, poses between odometry messages, faults named."""

import shutil
import struct

import cv2
import numpy as np
import pytest
from bags import Bag
from layouts import BODY, keyframe_message, write_bag
from random_keyframes import make_keyframe

from vggt3_ros.datasets import rosbag
from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.rosbag import read_rosbag
from vggt3_ros.datasets.rosbag_topics import Topics, choose_topics
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.compressed_depth import decompress_depth

CAMERA = Camera(64, 48, 60.0, 61.0, 31.5, 23.5)
START = 1_700_000_000 * 10**9
IMAGE, COMPRESSED, INFO = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
)
ODOMETRY, KEYFRAME = "nav_msgs/msg/Odometry", "vggt3_ros/msg/Keyframe"


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


def test_a_file_and_a_folder_without_metadata_are_bags_too(tmp_path):
    bag = write_bag(tmp_path / "bag", made())
    file = next(bag.glob("*.mcap"))
    assert len(read_rosbag(file)) == 6
    (bag / "metadata.yaml").unlink()
    assert len(open_dataset(bag, Options(every_frame=True))) == 6


def test_images_are_decoded_when_they_are_asked_for(tmp_path, monkeypatch):
    decoded = []
    decode = rosbag.Bag.decode
    monkeypatch.setattr(
        rosbag.Bag,
        "decode",
        lambda bag, place, data: (
            decoded.append(place.connection.topic) or decode(bag, place, data)
        ),
    )
    recording = read_rosbag(write_bag(tmp_path / "bag", made()))
    assert not [topic for topic in decoded if topic.endswith("image_raw")]
    recording.load_image(4)
    assert [topic for topic in decoded if topic.endswith("image_raw")] == [
        "/camera/color/image_raw"
    ]


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
        match="neither /tf_static nor /tf says where the camera 'camera' sits on 'base_link'.*--camera-in-base",
    ):
        read_rosbag(tmp_path / "bag")


def test_a_keyframe_sent_again_has_its_last_pose(tmp_path):
    sequence = made(3)
    moved = se3.exp(np.array([1.0, 0, 0, 0, 0, 0.1]))
    with Bag(tmp_path / "bag", "sqlite3") as bag:
        for i, pose, late_ns in ((0, None, 0), (1, None, 0), (2, None, 0), (1, moved, 10**9)):
            frame, header = (
                sequence.keyframes[i],
                bag.header(sequence.keyframes[i].stamp_ns, "camera"),
            )
            message = keyframe_message(
                bag, frame, np.round(frame.depth * 1000).astype(np.uint16), header
            )
            message.odometry_covariance = np.diag([0.1, 0.1, 0.1, 0.01, 0.01, 0.01]).ravel()
            if pose is not None:
                message.t_odom_camera = bag.pose(pose)
            bag.write("/keyframes", KEYFRAME, message, frame.stamp_ns + late_ns)
    read = open_dataset(tmp_path / "bag")
    assert len(read) == 3
    np.testing.assert_allclose(
        read.T_odom_cam, [sequence.T_odom_cam[0], moved, sequence.T_odom_cam[2]], atol=1e-9
    )
    assert read.keyframes[1].odometry_covariance[0, 0] == pytest.approx(0.1)
    np.testing.assert_array_equal(read.keyframes[1].image, sequence.keyframes[1].image)


@pytest.mark.parametrize(
    "types, wanted, chosen",
    [
        (
            {"/rgb/image_raw": IMAGE, "/rgb/camera_info": INFO, "/odom": ODOMETRY},
            {},
            ("/rgb/image_raw", "/rgb/camera_info", "/odom", None),
        ),
        (
            {
                "/cam/color/image_raw": IMAGE,
                "/cam/color/image_raw/compressed": COMPRESSED,
                "/cam/color/camera_info": INFO,
                "/odom": ODOMETRY,
                "/cam/depth/image_rect_raw": IMAGE,
                "/cam/aligned_depth_to_color/image_raw": IMAGE,
                "/cam/infra1/image_rect_raw": IMAGE,
                "/cam/depth/camera_info": INFO,
            },
            {},
            (
                "/cam/color/image_raw",
                "/cam/color/camera_info",
                "/odom",
                "/cam/aligned_depth_to_color/image_raw",
            ),
        ),
        (
            {
                "/left/image/compressed": COMPRESSED,
                "/right/image/compressed": COMPRESSED,
                "/left/camera_info": INFO,
                "/right/camera_info": INFO,
                "/odom": ODOMETRY,
            },
            {},
            ("/left/image/compressed", "/left/camera_info", "/odom", None),
        ),
        (
            {
                "/a": IMAGE,
                "/b": IMAGE,
                "/info": INFO,
                "/o1": ODOMETRY,
                "/o2": ODOMETRY,
                "/depth": IMAGE,
            },
            {"image": "/b", "odometry": "/o2", "depth": ""},
            ("/b", "/info", "/o2", None),
        ),
    ],
)
def test_topics_are_guessed(types, wanted, chosen):
    found = choose_topics(types, Topics(**wanted))
    assert (found.image, found.camera_info, found.odometry, found.depth) == chosen


@pytest.mark.parametrize(
    "types, wanted, message",
    [
        (
            {"/a": IMAGE, "/b": IMAGE, "/info": INFO, "/odom": ODOMETRY},
            {},
            "several image topics: name one with --image-topic",
        ),
        ({"/scan": "sensor_msgs/msg/LaserScan"}, {}, "no image topic: .*/scan"),
        ({"/a": IMAGE, "/odom": ODOMETRY}, {}, "no sensor_msgs/CameraInfo"),
        ({"/a": IMAGE, "/info": INFO}, {}, "no nav_msgs/Odometry"),
        ({"/a": IMAGE}, {"image": "/x"}, "topic /x is not in the bag"),
        (
            {"/a": IMAGE, "/info": INFO, "/o1": ODOMETRY, "/o2": ODOMETRY},
            {},
            "several odometry topics .*--odometry-topic",
        ),
        (
            {"/a": IMAGE, "/info": INFO},
            {"odometry": "/info"},
            "odometry topic /info holds sensor_msgs/msg/CameraInfo",
        ),
        ({"/k": KEYFRAME, "/j": KEYFRAME}, {}, "several keyframes topics"),
    ],
)
def test_what_cannot_be_guessed_is_said(types, wanted, message):
    with pytest.raises(ValueError, match=message):
        choose_topics(types, Topics(**wanted))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_damaged_bag_is_named(tmp_path, storage):
    bag = write_bag(tmp_path / "bag", made(), storage)
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    for size in (0, 100, len(data) // 2):
        broken = shutil.copytree(bag, tmp_path / f"broken{size}")
        (broken / file.name).write_bytes(data[:size])
        with pytest.raises(ValueError, match=f"broken{size}"):
            read_rosbag(broken)


@pytest.mark.parametrize(
    "storage, form", [("mcap", "raw"), ("sqlite3", "compressed"), ("mcap", "keyframes")]
)
def test_whatever_bytes_it_holds_only_a_text_comes_out(tmp_path, storage, form):
    rng = np.random.default_rng(0)
    bag = write_bag(tmp_path / "bag", made(3), storage, form)
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    data, refused = file.read_bytes(), 0
    for _ in range(30):
        spoilt = bytearray(data)
        for at in rng.integers(0, len(data) - 16, rng.integers(1, 8)):
            spoilt[at : at + rng.integers(1, 16)] = rng.bytes(rng.integers(1, 16))
        file.write_bytes(spoilt)
        try:
            list(open_dataset(bag, Options(every_frame=True)).keyframes)
        except ValueError:
            refused += 1
    assert refused > 5


def test_a_message_of_another_size_is_refused(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        header = bag.header(START, "camera")
        bag.write(
            "/image",
            COMPRESSED,
            bag.compressed(np.zeros((20, 30, 3), np.uint8), ".jpg", "jpeg", header),
            START,
        )
        bag.write("/camera_info", INFO, bag.camera_info(CAMERA, header), START)
        bag.write(
            "/odom", ODOMETRY, bag.odometry(np.eye(4), bag.header(START, "odom"), "camera"), START
        )
    with pytest.raises(ValueError, match="30x20, but camera_info says 64x48"):
        read_rosbag(tmp_path / "bag").load_image(0)


@pytest.mark.parametrize(
    "model, coefficients",
    [
        ("plumb_bob", [0.3, 0, 0, 0, 0]),
        ("equidistant", [0.3, 0, 0, 0]),
        ("fisheye", [0.3, 0, 0, 0]),
    ],
)
def test_rectified_images_have_the_projection_and_no_distortion(tmp_path, model, coefficients):
    with Bag(tmp_path / "bag") as bag:
        header = bag.header(START, "camera")
        info = bag.camera_info(CAMERA, header)
        info.distortion_model, info.d = model, np.array(coefficients)
        info.p = np.array([50.0, 0, 30, -4, 0, 51, 20, 0, 0, 0, 1, 0])
        bag.write(
            "/image_rect", IMAGE, bag.image(np.zeros((48, 64), np.uint8), "mono8", header), START
        )
        bag.write("/camera_info", INFO, info, START)
        bag.write(
            "/odom", ODOMETRY, bag.odometry(np.eye(4), bag.header(START, "odom"), "camera"), START
        )
    assert read_rosbag(tmp_path / "bag").camera.distortion[0] == 0.3
    assert read_rosbag(tmp_path / "bag", rectified=True).camera == Camera(
        64, 48, 50.0, 51.0, 30.0, 20.0, "plumb_bob"
    )


def test_compressed_depth():
    """Float depth is sent as quantised inverse depth (compressed_depth_image_transport's codec, by
    its formulas).
    """
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 8, (12, 16)).astype(np.float32)
    depth[0, :3] = 0
    a = 100.0 * 101.0  # its defaults: quantization 100, farthest 10 m
    b = 1.0 - a / 10.0
    stored = np.where(depth > 0, a / np.maximum(depth, 0.1) + b, 0).astype(np.uint16)

    class Message:
        format = "32FC1; compressedDepth png"
        data = struct.pack("<iff", 1, a, b) + cv2.imencode(".png", stored)[1].tobytes()

    read = decompress_depth(Message)
    assert np.all(read[0, :3] == 0) and np.abs(read - depth)[depth > 0].max() < 0.01
    Message.data, Message.format = (
        cv2.imencode(".png", np.uint16([[1500, 0]]))[1].tobytes(),
        "16UC1; png compressed",
    )
    np.testing.assert_allclose(decompress_depth(Message), [[1.5, 0]])
    for data, message in (
        (b"\x00" * 40, "the format does not name rvl"),
        (Message.data[:30], "16-bit PNG|cannot be decoded"),
        (b"", "not a PNG"),
        (Message.data[:16] + struct.pack(">II", 10**6, 2) + Message.data[24:], "sides must be"),
    ):
        Message.data = data
        with pytest.raises(ValueError, match=message):
            decompress_depth(Message)
