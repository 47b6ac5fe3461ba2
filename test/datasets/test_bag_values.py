"""Messages of a bag as poses, images and depth."""

import numpy as np
import pytest
from bags import Bag
from plain_bags import CAMERA, START

from vggt3_ros.datasets.bag_values import depth_of, image_of, pose_of, series, wide_images
from vggt3_ros.geometry import se3
from vggt3_ros.messages.levels import Levels

POSE = se3.exp([1.0, -2.0, 0.5, 0.3, -0.2, 0.9])


@pytest.fixture
def bag(tmp_path):
    return Bag(tmp_path / "unused")


def test_every_type_that_holds_a_pose_is_read(bag):
    header, pose = bag.header(START, "odom"), bag.pose(POSE)
    messages = (
        bag.odometry(POSE, header, "base"),
        bag.make("geometry_msgs/msg/PoseStamped", header=header, pose=pose),
        bag.make(
            "geometry_msgs/msg/PoseWithCovarianceStamped",
            header=header,
            pose=bag.make(
                "geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)
            ),
        ),
        bag.transform("odom", "base", POSE, START),
    )
    for message in messages:
        np.testing.assert_allclose(pose_of(message), POSE, atol=1e-9)


def test_a_transform_that_is_none_is_named(bag):
    message = bag.transform("odom", "base", POSE, START)
    for name in "xyzw":
        object.__setattr__(message.transform.rotation, name, np.nan)
    with pytest.raises(ValueError, match="transform"):
        pose_of(message)


def test_a_series_is_sorted_and_its_last_pose_of_a_stamp_counts():
    poses = {stamp: np.eye(4) * stamp for stamp in (1, 2, 3)}
    stamps, found = series([(3, poses[1]), (1, poses[1]), (2, poses[2]), (3, poses[3])])
    assert stamps.tolist() == [1, 2, 3] and stamps.dtype == np.int64
    np.testing.assert_array_equal(found, [poses[1], poses[2], poses[3]])


def test_raw_and_compressed_images_are_the_same(bag):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    header = bag.header(START, "camera")
    raw = bag.image(pixels, "rgb8", header)
    compressed = bag.compressed(pixels[..., ::-1], ".png", "rgb8; png compressed bgr8", header)
    for message in (raw, compressed):
        np.testing.assert_array_equal(image_of(message, CAMERA, Levels()), pixels)


def test_images_of_16_bits_are_found_and_what_cannot_be_read_is_passed_over(bag):
    header = bag.header(START, "camera")
    bits = np.random.default_rng(0).integers(0, 1000, (48, 64)).astype(np.uint16)
    narrow = bag.image(np.zeros((48, 64, 3), np.uint8), "rgb8", header)
    broken = bag.image(bits, "mono16", header)
    broken.data = broken.data[:10]
    found = wide_images([narrow, broken, bag.image(bits, "mono16", header)])
    assert len(found) == 1 and found[0].dtype == np.uint16
    np.testing.assert_array_equal(found[0].reshape(48, 64), bits)


def test_depth_is_in_metres(bag):
    millimetres = np.array([[0, 1500], [65, 4000]], np.uint16)
    message = bag.image(millimetres, "16UC1", bag.header(START, "depth"))
    np.testing.assert_allclose(depth_of(message), [[0, 1.5], [0.065, 4]], rtol=1e-6)
