"""Header fields of serialized messages, read without decoding them."""

import numpy as np
import pytest
from bags import typestore
from hypothesis import given
from hypothesis import strategies as st
from plain_bags import CAMERA, START

from vggt3_ros.messages.serialized import image_facts, stamp_of

TYPES = typestore()
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def header(frame, stamp_ns=START + 123_456_789):
    make = TYPES.types
    stamp = make["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def raw(frame="camera", encoding="rgb8", channels=3, little=True):
    pixels = np.zeros((CAMERA.height, CAMERA.width, channels), np.uint8)
    message = TYPES.types[IMAGE](
        header=header(frame),
        height=CAMERA.height,
        width=CAMERA.width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=pixels.ravel(),
    )
    return bytes(TYPES.serialize_cdr(message, IMAGE, little_endian=little))


@pytest.mark.parametrize("little", [True, False])
@given(
    st.text(st.characters(categories=("L", "N"), max_codepoint=0x3000), max_size=40),
    st.sampled_from(["rgb8", "mono8", "bayer_rggb8", "8UC1"]),
)
def test_of_an_image(little, frame, encoding):
    channels = 3 if encoding == "rgb8" else 1
    facts = image_facts(raw(frame, encoding, channels, little))
    assert (
        facts == (START + 123_456_789, frame, (CAMERA.width, CAMERA.height))
        and stamp_of(raw(frame, little=little)) == facts.stamp_ns
    )


@pytest.mark.parametrize("kind, magic", [(".jpg", "jpeg"), (".png", "png")])
def test_of_a_compressed_image(kind, magic):
    import cv2

    data = cv2.imencode(kind, np.zeros((30, 40, 3), np.uint8))[1].ravel()
    message = TYPES.types[COMPRESSED](header=header("camera"), format=magic, data=data)
    cdr = bytes(TYPES.serialize_cdr(message, COMPRESSED))
    assert image_facts(cdr, compressed=True) == (START + 123_456_789, "camera", (40, 30))
    assert image_facts(cdr, compressed=True, sized=False).size is None
    with pytest.raises(ValueError, match="truncated"):
        image_facts(cdr[:-20], compressed=True)


@given(st.integers(0, 200))
def test_truncated_messages_are_refused(length):
    with pytest.raises(ValueError):
        image_facts(raw()[:length])


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_facts_or_an_error(data, compressed):
    try:
        image_facts(data, compressed)
    except ValueError as error:
        assert str(error)


def test_too_little_data_for_the_rows_is_refused():
    message = TYPES.deserialize_cdr(raw(), IMAGE)
    message.data = message.data[:-5]
    with pytest.raises(ValueError, match="rows of"):
        image_facts(bytes(TYPES.serialize_cdr(message, IMAGE)))
