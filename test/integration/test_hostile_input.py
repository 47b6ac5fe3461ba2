"""Every request and every plain topic with fields that make no sense, over DDS: each request is
answered, each bad message told, and good ones do what they always do.
"""

import copy
import random

import cv2
import numpy as np
import pytest
from camera_rig import CAMERA, CameraRig, publish_static_frames
from geometry_msgs.msg import TransformStamped
from random_keyframes import make_keyframe
from ros_graph import until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vggt3_ros.srv import GetTrajectory, LoadMap, Localize, SaveMap, SetMode

from vggt3_ros.ros import image_messages, qos
from vggt3_ros.ros.conversions import from_camera, with_covariance
from vggt3_ros.ros.load.malformed import noise, spoil


def localize_request():
    picture = make_keyframe(3)
    return Localize.Request(
        image=image_messages.from_rgb(picture.image),
        camera_info=from_camera(picture.camera),
        use_hint=True,
        hint=with_covariance(np.eye(4), np.eye(6)),
    )


REQUESTS = {
    "localize": (Localize, localize_request),
    "save_map": (SaveMap, lambda: SaveMap.Request(name="office")),
    "load_map": (LoadMap, lambda: LoadMap.Request(name="office")),
    "get_trajectory": (GetTrajectory, GetTrajectory.Request),
    "set_mode": (SetMode, SetMode.Request),
}


def assert_nothing_uncaught(log):
    assert "vggt3_ros" in log and not [
        text for text in ("Traceback", "unexpected error in", "a callback failed") if text in log
    ], log[-3000:]


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_that_make_no_sense_are_answered(graph, name, capfd):
    backend = graph.backend()
    graph.refined(*(make_keyframe(id) for id in range(3)), backend=backend)
    kind, make = REQUESTS[name]
    rng, codes = random.Random(name), set()
    for _ in range(25):
        request = make()
        for _ in range(rng.randint(1, 2)):
            spoil(request, rng)
        codes.add(graph.call(kind, name, request).error_code)
    assert len(codes - {0}) >= 1 or name == "get_trajectory"
    assert_nothing_uncaught(capfd.readouterr().err)
    maps = graph.folder / "maps"
    assert not maps.exists() or {path.name for path in maps.iterdir()} <= {
        "office",
        "odom",
        "map",
        "rgb8",
        "mono16",
        "32FC1",
        "16UC1",
        "nv12",
        "bayer_rggb8",
        "jpeg",
        "equidistant",
        "rational_polynomial",
        "plumb_bob",
    }
    assert (
        graph.call(Localize, "localize", localize_request()).error_code == Localize.Response.NONE
    )


@pytest.mark.parametrize("compressed, depth", [(False, "raw"), (True, "compressedDepth")])
def test_plain_topics_that_make_no_sense_then_good_ones(graph, compressed, depth, capfd):
    rig = CameraRig(graph, compressed=compressed, depth=depth)
    backend = graph.backend(
        wait=False,
        input__source="odometry",
        input__depth_transport=depth,
        selection__translation=0.001,
        input__image_transport="compressed" if compressed else "raw",
        odom_frame="odom",
    )
    rig.meet(backend)
    topics = {topic.name: topic for topic in backend._active_parts.input.monitor.topics}
    header = Header(frame_id="camera_optical")
    header.stamp.sec = 1_700_000_000
    picture, png = (
        make_keyframe(1).image,
        cv2.imencode(".png", np.full((48, 64), 900, np.uint16))[1].tobytes(),
    )
    good = {
        "/image": image_messages.from_rgb(picture, header),
        "/camera_info": from_camera(CAMERA, header),
        "/image/compressed": image_messages.from_encoded(
            cv2.imencode(".jpg", picture)[1].tobytes(), header
        ),
        "/depth": image_messages.from_depth(np.full((48, 64), 900, np.uint16), header),
        "/depth/compressedDepth": CompressedImage(
            header=header, format="16UC1; compressedDepth png", data=bytes(12) + png
        ),
    }
    kinds = {
        "/image": Image,
        "/image/compressed": CompressedImage,
        "/camera_info": CameraInfo,
        "/depth": Image,
        "/depth/compressedDepth": CompressedImage,
    }
    publishers = {
        name: graph.client.create_publisher(kinds[name], name, qos.EVENTS)
        for name in good
        if name in topics
    }
    static = graph.client.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
    until(lambda: all(publisher.get_subscription_count() for publisher in publishers.values()))
    rng = random.Random(3)
    for turn in range(40):
        for name, publisher in publishers.items():
            message = copy.deepcopy(good[name])
            message.header.stamp.nanosec = turn * 10**7
            for _ in range(rng.randint(1, 2)):
                spoil(message, rng)
            before = topics[name].count
            publisher.publish(noise(message, rng) if turn % 4 == 0 else message)
            until(lambda: topics[name].count > before)
        frame = TransformStamped(header=header, child_frame_id="mount")
        spoil(frame, rng)
        static.publish(TFMessage(transforms=[frame]))
    assert (
        sum(topic.bad for topic in topics.values()) >= 10
        and backend._core.intake.refused >= 10
        and backend._core.intake.last_refusal
    )
    publish_static_frames(graph)
    rig.info()
    taken = len(backend._core.store)
    # a minute and more later, so that nothing of the above is newer
    for number in range(3000, 3006):
        for ms in range(number * 100 - 60, number * 100 + 61, 20):
            rig.pose(ms)
        rig.image(number, number * 100)
        rig.depth(number, number * 100)
    until(lambda: len(backend._core.store) >= taken + 3)
    assert_nothing_uncaught(capfd.readouterr().err)
