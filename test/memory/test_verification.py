"""A pose near the truth is improved by the nearest keyframes, and one that is not is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.config import LocalizerConfig
from vggt3_ros.features.matching import mutual_nearest
from vggt3_ros.geometry import se3
from vggt3_ros.memory.verification import Verification

VERIFICATION = Verification(LocalizerConfig())


@pytest.fixture(scope="module")
def scene(frames, rendered):
    """All keyframes but every fifth, which are asked about."""
    kept = [k for k in range(len(frames)) if k % 5 != 2]
    snapshot = SimpleNamespace(T_map_cam=rendered.T_world_cam[kept], keyframe_ids=np.array(kept))
    return SimpleNamespace(snapshot=snapshot, frame=lambda keyframe_id: frames[keyframe_id])


def off(T_cam_map, truth):
    error = se3.inverse(truth) @ se3.inverse(T_cam_map)
    return np.linalg.norm(error[:3, 3]), np.degrees(se3.rotation_angle(error))


@pytest.mark.parametrize(
    "start", [(0, 0, 0, 0, 0, 0), (0.1, 0, 0, 0, 0, 0), (0, -0.05, 0.2, 0, 0.03, 0)]
)
def test_a_pose_near_the_truth_is_improved(scene, frames, rendered, start):
    found = []
    for k in (2, 7, 12, 17, 22):
        refined, alike = VERIFICATION.tracked(
            scene, frames[k], rendered.T_world_cam[k] @ se3.exp(start)
        )
        found.append(
            alike and np.less(off(refined.T_cam_map, rendered.T_world_cam[k]), (0.02, 0.5)).all()
        )
    assert sum(found) >= 4


def test_a_pose_elsewhere_is_refused(scene, frames, rendered):
    for k in (2, 7, 12, 17, 22):
        refined, alike = VERIFICATION.tracked(
            scene, frames[k], rendered.T_world_cam[k] @ se3.exp([3, 0, 2, 0, 2.5, 0])
        )
        assert not alike or off(refined.T_cam_map, rendered.T_world_cam[k])[0] < 0.05


def test_one_keyframe_gives_a_pose_and_how_many_matches_agree_on_it(scene, frames, rendered):
    T_map_cam, agreeing = VERIFICATION.single(
        frames[7], frames[8], rendered.T_world_cam[8], mutual_nearest
    )
    assert agreeing >= 25 and off(se3.inverse(T_map_cam), rendered.T_world_cam[7])[0] < 0.05


def test_without_matches_no_pose_is_agreed_on(frames, rendered):
    blind = frames[8].__class__(
        **{**frames[8].__dict__, "keypoint_depth": np.zeros_like(frames[8].keypoint_depth)}
    )
    assert VERIFICATION.single(frames[7], blind, rendered.T_world_cam[8], mutual_nearest)[1] == 0
    scene = SimpleNamespace(
        snapshot=SimpleNamespace(T_map_cam=rendered.T_world_cam[8:9], keyframe_ids=np.array([8])),
        frame=lambda _: blind,
    )
    assert VERIFICATION.tracked(scene, frames[7], rendered.T_world_cam[7]) == (None, False)
