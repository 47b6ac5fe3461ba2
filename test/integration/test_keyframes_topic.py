"""Topic keyframes: what a front end sends is stored bit for bit, what is wrong is refused by name,
the next one is taken.
"""

from copy import deepcopy
from dataclasses import replace

import cv2
import numpy as np
import pytest
from random_keyframes import CAMERA, assert_same, make_keyframe
from ros_graph import until

from vggt3_ros.geometry import se3
from vggt3_ros.ros.conversions import from_keyframe


def test_stores_raw_and_compressed_images_with_depth_pose_and_covariance(graph):
    backend = graph.backend()
    raw, bare = make_keyframe(1), make_keyframe(2, depth=None)
    jpeg = cv2.imencode(".jpg", make_keyframe(3).image[..., ::-1])[1].tobytes()
    decoded = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    compressed = replace(make_keyframe(3, depth="float"), image=decoded)
    graph.send(raw, bare)
    graph.send(compressed, encoded=jpeg)
    until(lambda: backend._core.store.ids() == [1, 2, 3])
    for keyframe in (raw, bare, compressed):
        assert_same(backend._core.store.get(keyframe.id), keyframe)


def test_a_known_id_moves_its_pose(graph):
    backend = graph.backend()
    first = make_keyframe(1)
    moved = replace(first, T_odom_cam=se3.exp([1, 2, 3, 0, 0, 0.5]))
    graph.send(first, make_keyframe(2), moved)
    status = graph.status()
    until(lambda: status and status[-1].updated == 1)
    assert status[-1].keyframes == 2 and status[-1].refused == 0
    assert_same(backend._core.store.get(1), moved)


def broken(change, id=5):
    message = from_keyframe(make_keyframe(id))
    change(message)
    return message


def stereo(message, baseline=0.1, width=64):
    """Its depth gone, a second camera instead."""
    message.right_image, message.right_camera_info, message.depth = (
        message.image,
        deepcopy(message.camera_info),
        type(message.depth)(),
    )
    message.right_camera_info.p[3], message.right_camera_info.width = (
        -baseline * message.camera_info.p[0],
        width,
    )


BROKEN = {
    "right camera": (
        lambda m: stereo(m, baseline=-0.1),
        "right_camera_info.p[3] must be -fx * baseline",
    ),
    "right size": (
        lambda m: stereo(m, width=32),
        "right_camera_info: the stereo images differ in size: 64x48 and 32x48",
    ),
    "unknown encoding": (
        lambda m: setattr(m.image, "encoding", "yuv_nonsense"),
        "image.encoding 'yuv_nonsense'",
    ),
    "size": (
        lambda m: setattr(m.camera_info, "width", 32),
        "image is 64x48, but camera_info says 32x48",
    ),
    "data cut": (lambda m: setattr(m.image, "data", m.image.data[:-1]), "image.data must have"),
    "step": (lambda m: setattr(m.image, "step", 5), "image.step"),
    "NaN position": (
        lambda m: setattr(m.t_odom_camera.position, "y", float("nan")),
        "t_odom_camera.position holds NaN",
    ),
    "quaternion": (
        lambda m: setattr(m.t_odom_camera.orientation, "w", 7.0),
        "t_odom_camera.orientation",
    ),
    "no image": (
        lambda m: setattr(m.image, "data", []),
        "image and compressed_image are both empty",
    ),
    "focal": (
        lambda m: setattr(m.camera_info, "k", np.zeros(9)),
        "camera_info.k must hold positive focal lengths",
    ),
    "stamp zero": (
        lambda m: setattr(m.header.stamp, "sec", 0) or setattr(m.header.stamp, "nanosec", 0),
        "header.stamp is zero",
    ),
    "stamp past": (lambda m: setattr(m.header.stamp, "sec", 1000), "before the newest keyframe"),
    "depth unit": (
        lambda m: (
            setattr(m.depth, "encoding", "32FC1")
            or setattr(m.depth, "step", 256)
            or setattr(m.depth, "data", np.full(64 * 48, 1500, np.float32).tobytes())
        ),
        "depth must be metres",
    ),
    "depth size": (
        lambda m: setattr(m.depth, "width", 63),
        "depth is 63x48, but its image is 64x48",
    ),
    "frame": (
        lambda m: setattr(m.header, "frame_id", "elsewhere"),
        "header.frame_id is 'elsewhere'",
    ),
    "covariance": (
        lambda m: setattr(m, "odometry_covariance", -np.eye(6).ravel()),
        "odometry_covariance must be",
    ),
    "id reused": (lambda m: setattr(m, "id", 1), "keyframe id 1 is already stored with stamp_ns"),
    "distortion": (
        lambda m: setattr(m.camera_info, "distortion_model", "magic"),
        "distortion_model 'magic' is unknown",
    ),
}


def test_every_bad_keyframe_is_refused_by_name_and_the_next_good_one_taken(graph):
    backend = graph.backend()
    status = graph.status()
    graph.send(make_keyframe(1))
    until(lambda: len(backend._core.store) == 1)
    for number, (what, (change, text)) in enumerate(BROKEN.items(), 1):
        graph.keyframes.publish(broken(change))
        until(lambda: backend._core.intake.refused == number)
        assert text in backend._core.intake.last_refusal, what
    graph.send(make_keyframe(6))
    until(lambda: backend._core.store.ids() == [1, 6])
    until(lambda: status and status[-1].keyframes == 2)
    assert status[-1].refused == len(BROKEN) and status[-1].received == len(BROKEN) + 2
    assert_same(backend._core.store.get(1), make_keyframe(1))


def test_a_bomb_is_refused_from_its_header(graph):
    backend = graph.backend()
    message = from_keyframe(
        make_keyframe(1),
        encoded=cv2.imencode(".png", np.zeros((48, 4000, 3), np.uint8))[1].tobytes(),
    )
    graph.keyframes.publish(message)
    until(lambda: backend._core.intake.refused)
    assert (
        "compressed_image.data is 4000x48, but camera_info says 64x48"
        in backend._core.intake.last_refusal
    )


@pytest.mark.parametrize(
    "camera",
    [
        replace(CAMERA, distortion_model="equidistant", distortion=(0.1, 0.01, 0.0, 0.0)),
        replace(CAMERA, distortion_model="rational_polynomial", distortion=(0.1,) * 8),
        CAMERA.undistorted(),
    ],
)
def test_camera_models_arrive(graph, camera):
    backend = graph.backend()
    graph.send(make_keyframe(1, camera=camera))
    until(lambda: len(backend._core.store) == 1)
    stored = backend._core.store.camera(1)
    assert stored.distortion == camera.distortion or (
        not camera.is_distorted and not stored.is_distorted
    )
    np.testing.assert_array_equal(stored.matrix, camera.matrix)
