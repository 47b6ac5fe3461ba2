"""Service localize: a pose with its covariance, or an error code and a text; also while a
refinement runs.
"""

import time

import cv2
import numpy as np
import pytest
from fake_backend import SHIFT
from geometry_msgs.msg import PoseWithCovariance
from random_keyframes import CAMERA, make_keyframe
from rclpy.parameter import Parameter
from ros_graph import until
from std_msgs.msg import Header
from vggt3_ros.srv import Localize

from vggt3_ros.geometry import se3
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.ros.conversions import from_camera, from_nanoseconds, from_transform
from vggt3_ros.ros.image_messages import from_encoded, from_rgb

IMAGE = make_keyframe(0).image
HEADER = Header(stamp=from_nanoseconds(123_456_789_012), frame_id="camera")


def request(image=IMAGE, **fields):
    return Localize.Request(
        **{"image": from_rgb(image, HEADER), "camera_info": from_camera(CAMERA, HEADER), **fields}
    )


@pytest.fixture
def backend(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    return backend


def test_answers_with_pose_covariance_and_quality(graph, backend):
    answer = graph.call(Localize, "localize", request())
    assert (answer.error_code, answer.error_msg) == (Localize.Response.NONE, "")
    assert answer.pose.header.frame_id == "map" and answer.pose.header.stamp == HEADER.stamp
    np.testing.assert_allclose(to_transform(answer.pose.pose.pose), SHIFT, atol=1e-9)
    np.testing.assert_allclose(np.reshape(answer.pose.pose.covariance, (6, 6)), np.eye(6) * 1e-4)
    assert (answer.inliers, answer.generation) == (100, 1) and answer.reprojection_error == 0.5


def test_takes_compressed_images_hints_and_the_quick_way(graph, backend):
    png = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()
    hint = se3.exp([3, 2, 1, 0.1, 0.2, 0.3])
    answer = graph.call(
        Localize,
        "localize",
        Localize.Request(
            compressed_image=from_encoded(png, HEADER),
            camera_info=from_camera(CAMERA),
            use_hint=True,
            hint=PoseWithCovariance(pose=from_transform(hint)),
            verify=False,
        ),
    )
    assert answer.error_code == Localize.Response.NONE and answer.pose.header.stamp == HEADER.stamp
    np.testing.assert_allclose(to_transform(answer.pose.pose.pose), hint, atol=1e-9)
    assert answer.pose.pose.covariance[0] == pytest.approx(1e-2)


def test_not_localized_is_an_answer(graph, backend):
    answer = graph.call(Localize, "localize", request(0 * IMAGE))
    assert (
        answer.error_code == Localize.Response.NOT_LOCALIZED
        and "shows nothing" in answer.error_msg
    )


def test_a_bad_request_names_the_field(graph, backend):
    wrong = request()
    wrong.image.encoding = "jabberwocky"
    nan = request(use_hint=True)
    nan.hint.pose.position.x = float("nan")
    for bad, text in (
        (wrong, "image.encoding 'jabberwocky'"),
        (nan, "hint.pose.position"),
        (Localize.Request(), "camera_info.k"),
    ):
        answer = graph.call(Localize, "localize", bad)
        assert answer.error_code == Localize.Response.BAD_IMAGE and text in answer.error_msg


def test_without_a_map_it_says_so(graph):
    graph.backend()
    answer = graph.call(Localize, "localize", request())
    assert answer.error_code == Localize.Response.NO_MAP and answer.error_msg


def test_answers_within_half_a_second_while_a_refinement_runs(graph):
    backend = graph.backend()
    graph.refined(make_keyframe(0), make_keyframe(1), backend=backend)
    backend.set_parameters([Parameter("memory.steps", value=10_000)])
    refinement = backend._core.refinery.request()
    client = graph.client.create_client(Localize, "localize")
    assert client.wait_for_service(5)
    for _ in range(5):
        begin = time.monotonic()
        assert graph.wait(client.call_async(request())).error_code == Localize.Response.NONE
        assert time.monotonic() - begin < 0.5
    assert not refinement.done() and backend._core.refinery.running


def test_a_crash_of_the_worker_is_an_answer_and_the_next_request_works(graph, backend):
    bomb = IMAGE.copy()
    bomb[0, 0] = (1, 2, 3)
    answer = graph.call(Localize, "localize", request(bomb))
    assert answer.error_code == Localize.Response.NO_WORKER and "exit status 7" in answer.error_msg
    until(lambda: backend._core.worker.ready)
    assert graph.call(Localize, "localize", request()).error_code == Localize.Response.NONE
