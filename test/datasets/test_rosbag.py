"""Bags as robots record them: topics guessed, poses between odometry messages, faults named."""

import shutil
import struct

import cv2
import numpy as np
import pytest
from bags import Bag
from layouts import keyframe_message, write_bag
from random_keyframes import make_keyframe

from vggt3_ros.datasets import rosbag
from vggt3_ros.datasets.dataset import Options, open_dataset
from vggt3_ros.datasets.rosbag import read_rosbag
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
