"""The real back end behind the node: what comes over DDS is what the library computes, and unseen
images are localized.
"""

from dataclasses import replace

import numpy as np
import pytest
from ros_graph import until
from vggt3_ros.msg import KeyframePoses
from vggt3_ros.srv import Localize

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.image_messages import from_rgb
from vggt3_ros.store.keyframes import KeyframeStore

SETTINGS = {"device": "cpu"}


@pytest.fixture(scope="module")
def sequence():
    return apartment.sequence(
        keyframes=12, queries=3, camera=Camera(320, 240, 262.5, 262.5, 159.5, 119.5)
    )


def test_over_dds_the_poses_are_those_of_the_library(graph, sequence, tmp_path):
    frames = [replace(frame, stamp_ns=frame.stamp_ns + 10**18) for frame in sequence.keyframes]
    with KeyframeStore(tmp_path / "library") as store:
        library = Backend(store, BackendConfig.from_flat(SETTINGS))
        for frame in frames:
            library.add(frame)
        expected = library.refine().T_map_cam

    heard = graph.listen(KeyframePoses, "keyframe_poses")
    backend = graph.backend(real=True, **SETTINGS)
    graph.send(*frames)
    until(lambda: len(backend._core.store) == len(frames))
    backend._core.refinery.request().result(120)
    until(lambda: heard)
    received = np.array([to_transform(pose.pose) for pose in heard[-1].poses])
    between = se3.inverse(expected) @ received
    assert list(heard[-1].ids) == [frame.id for frame in frames]
    assert np.linalg.norm(between[:, :3, 3], axis=1).max() < 0.005
    assert se3.rotation_angle(between).max() < np.radians(0.2)
    covariances = np.array([pose.covariance for pose in heard[-1].poses]).reshape(-1, 6, 6)
    assert np.linalg.eigvalsh(covariances[1:]).min() > 0

    found = [
        graph.call(
            Localize,
            "localize",
            Localize.Request(
                image=from_rgb(query.image), camera_info=from_camera(sequence.camera)
            ),
        )
        for query in sequence.queries
    ]
    blank = graph.call(
        Localize,
        "localize",
        Localize.Request(
            image=from_rgb(np.zeros((240, 320, 3), np.uint8)),
            camera_info=from_camera(sequence.camera),
        ),
    )
    assert (
        blank.error_code in (Localize.Response.NOT_LOCALIZED, Localize.Response.BAD_IMAGE)
        and blank.error_msg
    )
    assert sum(answer.error_code == Localize.Response.NONE for answer in found) >= 2
