"""Localization in a refined map: unseen views are found, and no other image gets a pose."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from photographs import NAMES, scaled
from scipy.spatial import cKDTree

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.datasets.synthetic import apartment
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.memory.scenes import Scene

CONFIG = BackendConfig.from_flat({"device": "cpu"})


@pytest.fixture(scope="module")
def backend(refined_folder):
    with KeyframeStore(refined_folder) as store:
        yield Backend(store, CONFIG)


@pytest.fixture(scope="module")
def T_world_map(backend, rendered):
    return trajectory_error(
        backend.snapshot.T_map_cam, rendered.T_world_cam, rendered.stamps_ns
    ).T_truth_estimate


def off(answer, truth, T_world_map):
    if answer.T_map_cam is None:
        return np.inf, np.inf
    error = se3.inverse(truth) @ T_world_map @ answer.T_map_cam
    return np.linalg.norm(error[:3, 3]), np.degrees(se3.rotation_angle(error))


@pytest.fixture(scope="module")
def answers(backend, rendered):
    return [backend.localize(image, rendered.camera) for image in rendered.queries]


def test_unseen_views_are_localized(answers, rendered, T_world_map):
    errors = np.array([off(*pair, T_world_map) for pair in zip(answers, rendered.T_world_query)])
    assert ((errors[:, 0] < 0.05) & (errors[:, 1] < 5)).mean() >= 0.9, errors
    assert np.median(errors[:, 0]) < 0.03


def test_an_answer_says_how_sure_it_is(answers):
    for answer in answers:
        if answer.code == "ok":
            assert (
                answer.verified
                and answer.inliers >= CONFIG.localizer.minimum_inliers
                and answer.message == ""
            )
            assert (
                0
                < answer.reprojection_error_px
                < CONFIG.localizer.scatter * CONFIG.localizer.verify_threshold
            )
            np.testing.assert_allclose(answer.covariance, answer.covariance.T, atol=1e-12)
            assert np.linalg.eigvalsh(answer.covariance).min() > 0
            assert np.sqrt(np.trace(answer.covariance[:3, :3])) < 0.2
        else:
            assert answer.T_map_cam is None and answer.covariance is None and answer.message
        assert answer.generation == 1 and answer.seconds > 0


def test_the_same_image_gives_the_same_answer_from_any_thread(backend, rendered, answers):
    with ThreadPoolExecutor(3) as pool:
        again = list(
            pool.map(lambda image: backend.localize(image, rendered.camera), rendered.queries[:6])
        )
    for first, second in zip(answers, again):
        assert first.code == second.code
        if first.code == "ok":
            np.testing.assert_allclose(first.T_map_cam, second.T_map_cam, atol=1e-4)


def test_where_no_keyframe_verifies_anything_the_memorys_own_answer_stands(
    backend, rendered, T_world_map
):
    """Keyframes whose depth is gone verify no pose; the scene memory needs none of them."""

    def without_depth(keyframe_id):
        frame = backend.frames(keyframe_id)
        return replace(frame, keypoint_depth=np.zeros_like(frame.keypoint_depth))

    scene = replace(backend._scenes.current, places=None, frame=without_depth)
    found = [
        backend.localizer.localize(scene, image, rendered.camera) for image in rendered.queries
    ]
    alone = [
        backend.localizer.localize(scene, image, rendered.camera, verify=False)
        for image in rendered.queries
    ]
    assert [answer.code for answer in found] == [answer.code for answer in alone] and not any(
        answer.verified for answer in found
    )
    errors = np.array([off(*pair, T_world_map) for pair in zip(found, rendered.T_world_query)])
    assert ((errors[:, 0] < 0.05) & (errors[:, 1] < 5)).mean() >= 0.8, errors


@pytest.mark.parametrize("offset", [(0, 0, -1.5), (0, 0, 1), (1, 0, 0), (-1, 0, 0)])
def test_a_hint_a_metre_off_leads_to_the_same_pose(backend, rendered, T_world_map, offset):
    """By the hint alone. Keypoints found around where a wrong pose expects them confirm it: poses
    on the way there were answered once.
    """
    scene = Scene(backend.snapshot, memory=None, places=None, frame=backend.frames)
    errors = []
    for image, truth in zip(rendered.queries, rendered.T_world_query):
        hint = se3.inverse(T_world_map) @ truth @ se3.exp([*offset, 0, 0, 0])
        answer = backend.localizer.localize(scene, image, rendered.camera, hint)
        errors.append(off(answer, truth, T_world_map)[0])
    found = np.isfinite(errors)
    assert found.mean() >= 0.9 and np.array(errors)[found].max() < 0.03, errors


def test_a_wrong_hint_does_no_harm(backend, rendered, answers):
    for image, without in list(zip(rendered.queries, answers))[:3]:
        told = backend.localize(image, rendered.camera, hint=se3.exp([5, 5, 5, 0, 2.0, 0]))
        assert told.code == without.code
        if told.code == "ok":
            assert np.abs(told.T_map_cam - without.T_map_cam).max() < 0.01


def test_a_distorted_query_camera_finds_the_same_place(backend, rendered, answers):
    lens = replace(
        rendered.camera,
        distortion_model="plumb_bob",
        distortion=(-0.18, 0.05, 0.001, -0.0005, 0.0),
    )
    y, x = np.indices((lens.height, lens.width), np.float32)
    straight = cv2.undistortPoints(
        np.stack([x, y], -1).reshape(-1, 1, 2),
        lens.matrix,
        np.array(lens.distortion),
        P=lens.matrix,
    )
    straight = straight.reshape(lens.height, lens.width, 2).astype(np.float32)
    asked = [k for k in range(len(answers)) if answers[k].code == "ok"][:5]
    away = []
    for k in asked:
        seen = cv2.remap(rendered.queries[k], straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
        answer = backend.localize(seen, lens)
        away.append(
            np.inf
            if answer.code != "ok"
            else np.linalg.norm(answer.T_map_cam[:3, 3] - answers[k].T_map_cam[:3, 3])
        )
    assert np.median(away) < 0.03 and np.mean(np.array(away) < 0.1) >= 0.8


def refused(backend, image, camera):
    """No answer for `image`, verified or not, may be a pose."""
    for verify in (True, False):
        answer = backend.localize(image, camera, verify=verify)
        assert (
            answer.code in ("not_localized", "bad_image")
            and answer.T_map_cam is None
            and answer.message
        ), (
            f"verify={verify}: {answer.code} with {answer.inliers} inliers, {answer.reprojection_error_px:.2f} px"
        )


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_blank_image_is_refused(backend, rendered, value):
    refused(backend, np.full((480, 640, 3), value, np.uint8), rendered.camera)


@pytest.mark.parametrize("sigma", [15, 40])
def test_heavily_blurred_views_are_refused(backend, rendered, sigma):
    for image in rendered.queries[:4]:
        refused(backend, cv2.GaussianBlur(image, (0, 0), sigma), rendered.camera)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: rng.integers(0, 256, (480, 640, 3), np.uint8),
        lambda rng: cv2.resize(
            rng.integers(0, 256, (60, 80, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC
        ),
        lambda rng: (
            np.kron(rng.integers(0, 2, (24, 32, 1)), np.ones((20, 20, 3))).astype(np.uint8) * 255
        ),
    ],
)
def test_noise_is_refused(backend, rendered, make):
    for seed in range(3):
        refused(backend, make(np.random.default_rng(seed)), rendered.camera)


@pytest.mark.parametrize(
    "name",
    NAMES + ("camera.png", "coins.png", "brick.png", "text.png", "page.png", "clock_motion.png"),
)
def test_photographs_of_other_things_are_refused(backend, rendered, name):
    refused(backend, scaled(name), rendered.camera)


def test_rooms_that_were_not_mapped_are_refused(backend, rendered, T_world_map):
    whole = apartment.sequence(queries=0)
    mapped = cKDTree(se3.transform_points(T_world_map, backend.snapshot.cloud.points[::5]))
    strange = []
    for index in range(40, 100, 4):
        if (
            np.linalg.norm(
                rendered.T_world_cam[:, :3, 3] - whole.groundtruth[index, :3, 3], axis=1
            ).min()
            < 1.0
        ):
            continue
        keyframe = whole.keyframes[index]
        y, x = np.indices(keyframe.depth.shape)[:, ::16, ::16]
        points = rendered.camera.unproject(np.stack([x, y], -1), keyframe.depth[::16, ::16])[
            keyframe.depth[::16, ::16] > 0
        ]
        if (
            mapped.query(se3.transform_points(whole.groundtruth[index], points))[0] < 0.15
        ).mean() < 0.05:
            strange.append(keyframe.image)
    assert len(strange) >= 4
    for image in strange:
        refused(backend, image, rendered.camera)


def test_another_home_with_the_same_pictures_on_its_walls_is_refused(backend, rendered):
    """A coffee cup and a motorcycle hang in both. Another seed of the apartment would not do: it
    is this one repainted.
    """
    home = apartment.twin_rooms()
    assert len(home.groundtruth) > 60
    for index in range(0, len(home.groundtruth), 2):
        refused(backend, home.keyframes[index].image, rendered.camera)
    # 300 matches on one picture
    assert (
        "rest of the image" in backend.localize(home.keyframes[64].image, rendered.camera).message
    )


@pytest.mark.parametrize("width, height", [(320, 240), (480, 360), (960, 720)])
def test_a_camera_of_another_size_is_localized_in_the_same_map(
    backend, rendered, T_world_map, width, height
):
    camera, errors = rendered.camera.scaled(width, height), []
    for image, truth in zip(rendered.queries[::3], rendered.T_world_query[::3]):
        kind = cv2.INTER_AREA if width < rendered.camera.width else cv2.INTER_CUBIC
        answer = backend.localize(cv2.resize(image, (width, height), interpolation=kind), camera)
        assert answer.code == "ok" and answer.verified
        errors.append(off(answer, truth, T_world_map)[0])
    assert np.median(errors) < 0.03


def test_an_image_that_is_not_its_cameras_is_refused(backend, rendered):
    for image in (
        rendered.queries[0][:240],
        rendered.queries[0][..., 0],
        rendered.queries[0].astype(np.float32),
    ):
        answer = backend.localize(image, rendered.camera)
        assert (
            answer.code == "bad_image" and "640x480" in answer.message and answer.T_map_cam is None
        )


def test_without_a_map_there_is_no_answer(rendered, tmp_path):
    with KeyframeStore(tmp_path) as store:
        answer = Backend(store, CONFIG).localize(rendered.queries[0], rendered.camera)
    assert answer.code == "no_map" and "refine" in answer.message
