"""A scene memory asked where an image was taken, without any keyframe."""

from types import SimpleNamespace

import numpy as np
import pytest
from folded_memory import folded

from vggt3_ros.config import LocalizerConfig
from vggt3_ros.features.frame import encode_image
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.geometry import se3
from vggt3_ros.memory.appearance import agreement, memory_similarity
from vggt3_ros.memory.recall import TRIES, expected_slots, first_look, recall, second_look, to_ask

CONFIG = LocalizerConfig()


@pytest.fixture(scope="module")
def memory(frames, rendered):
    return folded(frames, rendered.T_world_cam)


@pytest.fixture(scope="module")
def queries(rendered, encoder):
    return [encode_image(image, rendered.camera, encoder) for image in rendered.queries]


def off(T_map_cam, truth):
    error = se3.inverse(truth) @ T_map_cam
    return np.linalg.norm(error[:3, 3]), np.degrees(se3.rotation_angle(error))


@pytest.fixture(scope="module")
def recalls(memory, queries):
    return [
        recall(memory, query, to_ask(memory, query, None, None, CONFIG.slots_asked), CONFIG)
        for query in queries
    ]


def test_unseen_views_are_found_to_a_centimetre(recalls, rendered):
    errors = np.array(
        [off(found.T_map_cam, truth) for found, truth in zip(recalls, rendered.T_world_query)]
    )
    assert np.median(errors[:, 0]) < 0.01 and np.median(errors[:, 1]) < 0.3
    assert np.mean((errors[:, 0] < 0.05) & (errors[:, 1] < 5)) >= 0.9, errors


def test_the_second_look_betters_the_first(memory, queries, recalls, rendered):
    first = [
        off(
            first_look(
                memory, query, np.argsort(-memory.observed)[: CONFIG.slots_asked], CONFIG
            ).T_map_cam,
            truth,
        )[0]
        for query, truth in zip(queries, rendered.T_world_query)
    ]
    second = [
        off(found.T_map_cam, truth)[0] for found, truth in zip(recalls, rendered.T_world_query)
    ]
    assert np.median(second) < np.median(first)


def test_a_start_half_a_degree_and_five_centimetres_off_is_enough_for_a_second_look(
    memory, queries, recalls, rendered
):
    for query, found, truth in list(zip(queries, recalls, rendered.T_world_query))[:6]:
        again = second_look(
            memory, query, truth @ se3.exp([0.03, -0.02, 0.03, 0.005, -0.005, 0.005]), CONFIG
        )
        assert (
            again is not None
            and np.linalg.norm(again.T_map_cam[:3, 3] - found.T_map_cam[:3, 3]) < 0.02
        )


def test_a_wrong_start_gets_no_second_look_or_is_not_believed(memory, queries, rendered):
    for query, truth in list(zip(queries, rendered.T_world_query))[:6]:
        again = second_look(memory, query, truth @ se3.exp([0, 0, 0, 0, 2.0, 0]), CONFIG)
        assert (
            again is None
            or agreement(look(memory, query, again.T_map_cam))[0] < CONFIG.memory_similarity
        )


def look(memory, query, T_map_cam):
    slots, pixels = expected_slots(memory, query.camera, T_map_cam)
    return memory_similarity(query, pixels, memory.keys[slots].float().numpy())


def test_from_the_true_pose_the_image_looks_as_remembered_and_elsewhere_not(
    memory, queries, rendered
):
    right = np.array(
        [
            agreement(look(memory, query, truth))
            for query, truth in zip(queries, rendered.T_world_query)
        ]
    )
    wrong = np.array(
        [
            agreement(look(memory, query, truth @ se3.exp([0.5, 0, 0, 0, 0.3, 0])))
            for query, truth in zip(queries, rendered.T_world_query)
        ]
    )
    assert np.median(right[:, 0]) > 0.8 and np.median(right[:, 1]) > 0.5
    assert np.mean(right[:, 0] > wrong[:, 0] + 0.1) > 0.9


def test_slots_expected_are_before_the_camera_within_the_image_and_not_behind_walls(
    memory, rendered
):
    truth = rendered.T_world_query[0]
    slots, pixels = expected_slots(memory, rendered.camera, truth)
    points = se3.transform_points(se3.inverse(truth), memory.map_points[slots])
    assert len(slots) > 300 and points[:, 2].min() > 0
    np.testing.assert_allclose(rendered.camera.project(points), pixels, atol=1e-6)
    assert pixels.min() > 0 and (pixels < (640, 480)).all()
    depth = rendered.keyframes[0].depth.max()
    assert np.quantile(points[:, 2], 0.99) < 1.5 * depth
    behind = expected_slots(memory, rendered.camera, truth @ se3.exp([0, 0, 0, 0, np.pi, 0]))[0]
    assert len(np.intersect1d(slots, behind)) == 0


def test_a_large_memory_is_asked_where_the_image_looks_alike_and_about_so_many_slots(
    memory, frames, queries, rendered
):
    places = PlaceIndex.build([frame.features for frame in frames])
    snapshot = SimpleNamespace(T_map_cam=rendered.T_world_cam)
    shares = []
    for query, truth in zip(queries, rendered.T_world_query):
        order = to_ask(memory, query, places, snapshot, 3000)
        # a keyframe's slots stay together
        assert 1 <= len(order) <= TRIES and max(map(len, order)) <= 3000 + 1200
        assert len(np.unique(np.concatenate(order))) == sum(map(len, order))
        wanted = expected_slots(memory, query.camera, truth)[0]
        shares.append(np.isin(wanted, order[0]).mean())
    assert np.median(shares) > 2 * 3000 / len(memory)


def test_a_hint_says_where_to_ask(memory, queries, rendered):
    truth = rendered.T_world_query[3]
    slots = to_ask(memory, queries[3], None, None, 3000, hint=truth)[0]
    assert np.isin(expected_slots(memory, rendered.camera, truth)[0], slots).mean() > 0.4


def test_an_image_without_keypoints_is_no_fault(memory, rendered, encoder):
    blank = encode_image(np.full((480, 640, 3), 90, np.uint8), rendered.camera, encoder)
    assert recall(memory, blank, to_ask(memory, blank, None, None, 1000), CONFIG).refined is None
