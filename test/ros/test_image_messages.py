"""Arrays as image messages."""

import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="messages are needed")

from std_msgs.msg import Header

from vggt3_ros.messages.images import to_depth
from vggt3_ros.ros.image_messages import from_depth, from_encoded, from_rgb

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


@pytest.mark.parametrize("view", [IMAGE, IMAGE[::-1], IMAGE[:, ::2], IMAGE[..., ::-1]])
def test_an_image_that_is_no_block_of_memory_arrives_as_it_looks(view):
    message = from_rgb(view, Header(frame_id="optical"))
    assert (message.height, message.width, message.encoding) == (*view.shape[:2], "rgb8")
    assert message.step == 3 * view.shape[1] and message.header.frame_id == "optical"
    assert message.is_bigendian == (sys.byteorder == "big")
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(view.shape), view)


@pytest.mark.parametrize(
    "dtype, encoding, metres", [(np.float32, "32FC1", 1.0), (np.uint16, "16UC1", 0.001)]
)
def test_depth_is_read_back_in_metres(dtype, encoding, metres):
    depth = np.arange(12).reshape(3, 4).astype(dtype)
    message = from_depth(depth)
    assert message.encoding == encoding and message.step == 4 * depth.itemsize
    np.testing.assert_allclose(to_depth(message), depth * metres, atol=1e-7)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_encoded_bytes_stay_as_they_are_and_are_named(kind):
    data = cv2.imencode(f".{kind}", IMAGE)[1].tobytes()
    message = from_encoded(data, Header(frame_id="optical"))
    assert bytes(message.data) == data and message.format == kind
    assert message.header.frame_id == "optical"
