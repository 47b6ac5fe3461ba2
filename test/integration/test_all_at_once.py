"""A refinement, localizations, a save and a burst of keyframes at once give what they give one
after the other. The real back end.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from ros_graph import until
from vggt3_ros.srv import Localize, SaveMap

from vggt3_ros.backend import Backend
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.image_messages import from_rgb
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot

SETTINGS = {"device": "cpu"}
# keyframes refined before, and new to the refinement that is watched; the rest come while it runs
OLD, NEW = 12, 4


@pytest.fixture(scope="module")
def sequence():
    return apartment.sequence(
        keyframes=20, queries=3, camera=Camera(320, 240, 262.5, 262.5, 159.5, 119.5)
    )


@pytest.fixture(scope="module")
def keyframes(sequence):
    return [replace(frame, stamp_ns=frame.stamp_ns + 10**18) for frame in sequence.keyframes]


@pytest.fixture(scope="module")
def refined(keyframes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("all_at_once") / "store"
    with KeyframeStore(folder) as store:
        backend = Backend(store, BackendConfig.from_flat(SETTINGS))
        for frame in keyframes[:OLD]:
            backend.add(frame)
        backend.refine()
        backend.close()
    return folder


def requests(sequence):
    return [
        Localize.Request(image=from_rgb(query.image), camera_info=from_camera(sequence.camera))
        for query in sequence.queries
    ]


def started(graph, refined, name, keyframes):
    folder = shutil.copytree(refined, graph.folder / name)
    backend = graph.backend(real=True, store=str(folder), odom_frame="odom", **SETTINGS)
    graph.send(*keyframes[OLD : OLD + NEW])
    until(lambda: len(backend._core.store) == OLD + NEW)
    return backend


def saved(graph, name):
    return graph.client.create_client(SaveMap, "save_map").call_async(SaveMap.Request(name=name))


def test_at_once_as_one_after_the_other(graph, sequence, keyframes, refined):
    backend = started(graph, refined, "in_turn", keyframes)
    answers = {1: [graph.call(Localize, "localize", request) for request in requests(sequence)]}
    assert graph.wait(backend._core.refinery.request(), 120) == 2
    in_turn = Snapshot.load(backend._core.store.snapshots / "000002")
    until(lambda: backend._core.snapshot.generation == 2)
    answers[2] = [graph.call(Localize, "localize", request) for request in requests(sequence)]
    graph.stop(backend)
    assert {a.error_code for a in answers[1] + answers[2]} <= {
        Localize.Response.NONE,
        Localize.Response.NOT_LOCALIZED,
    }
    assert sum(a.error_code == Localize.Response.NONE for a in answers[2]) >= 2

    backend = started(graph, refined, "at_once", keyframes)
    status = graph.status()
    refinement = backend._core.refinery.request()
    # it has read what it refines
    until(lambda: status and status[-1].phase not in ("", "features"))
    saving = saved(graph, "at_once")
    localizer = graph.client.create_client(Localize, "localize")
    asked = []
    for k, frame in enumerate(keyframes[OLD + NEW :]):
        graph.send(frame)
        asked.append((k % 3, localizer.call_async(requests(sequence)[k % 3])))
    found = [(k, graph.wait(future, 60)) for k, future in asked]
    assert 1 in {answer.generation for _, answer in found}  # while the refinement ran
    assert graph.wait(refinement, 120) == 2
    until(lambda: len(backend._core.store) == len(keyframes))

    at_once = Snapshot.load(backend._core.store.snapshots / "000002")
    assert at_once.keyframe_ids.tolist() == in_turn.keyframe_ids.tolist()
    np.testing.assert_allclose(at_once.T_map_cam, in_turn.T_map_cam, atol=1e-3)
    assert len(at_once.cloud) == pytest.approx(len(in_turn.cloud), rel=0.01)
    for frame in keyframes:
        kept = backend._core.store.get(frame.id)
        assert kept.stamp_ns == frame.stamp_ns and np.array_equal(kept.image, frame.image)
        np.testing.assert_allclose(kept.depth, frame.depth, atol=1e-6)
        np.testing.assert_allclose(kept.T_odom_cam, frame.T_odom_cam, atol=1e-9)
    for k, answer in found:
        expected = answers[answer.generation][k]
        assert answer.error_code == expected.error_code, (answer.error_msg, expected.error_msg)
        if answer.error_code == Localize.Response.NONE:
            apart = se3.inverse(to_transform(expected.pose.pose.pose)) @ to_transform(
                answer.pose.pose.pose
            )
            assert np.linalg.norm(apart[:3, 3]) < 0.01 and se3.rotation_angle(apart) < np.radians(
                0.3
            )
    assert graph.wait(saving, 60).error_code == SaveMap.Response.NONE
    with KeyframeStore(graph.folder / "maps" / "at_once", read_only=True) as store:
        assert OLD + NEW <= len(store) <= len(keyframes)
        newest = Snapshot.load(max(store.snapshots.glob("[0-9]" * 6)))
        assert newest.generation in (1, 2) and set(newest.keyframe_ids.tolist()) <= set(
            store.ids()
        )
