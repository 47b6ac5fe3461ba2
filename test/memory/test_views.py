"""The view of a scene memory looks like the keyframe that was there."""

import numpy as np
import pytest
from folded_memory import folded

from vggt3_ros.config import LocalizerConfig
from vggt3_ros.geometry import se3
from vggt3_ros.memory.recall import recall, to_ask
from vggt3_ros.memory.views import view

CONFIG = LocalizerConfig()


@pytest.fixture(scope="module")
def memory(frames, rendered):
    return folded(frames[:12], rendered.T_world_cam)


def test_its_keypoints_are_slots_in_sight_the_most_seen_first(memory, frames, rendered):
    camera, pose = frames[5].camera, rendered.T_world_cam[5]
    seen = view(memory, camera, pose)
    keypoints, scores = seen.features.keypoints, seen.features.scores
    assert len(keypoints) > 500 and not seen.has_depth
    assert ((keypoints >= 0) & (keypoints < (camera.width, camera.height))).all()
    assert (np.diff(scores) <= 0).all() and scores[0] > 1
    # most keypoints of the keyframe that was there are among them, and look the same
    own = frames[5].features
    near = np.linalg.norm(own.keypoints[:, None] - keypoints[None], axis=2)
    alike = own.descriptors.astype(np.float32) @ seen.features.descriptors.astype(np.float32).T
    known = frames[5].keypoint_depth > 0
    assert ((near < 2) & (alike > 0.8)).any(1)[known].mean() > 0.8


def test_each_cell_has_the_key_of_the_nearest_slot(memory, frames, rendered):
    features = view(memory, frames[5].camera, rendered.T_world_cam[5]).features
    centres = features.cell_centres().reshape(-1, 2)
    for cell in (0, 137, len(centres) - 1):
        nearest = np.linalg.norm(features.keypoints - centres[cell], axis=1).argmin()
        np.testing.assert_array_equal(
            features.dense.reshape(len(features.dense), -1)[:, cell],
            features.descriptors[nearest],
        )


def test_it_is_found_in_a_memory_of_other_keyframes(frames, rendered):
    even, other = (folded(frames[k:14:2], rendered.T_world_cam[k:14:2]) for k in (0, 1))
    truth = rendered.T_world_cam[6]
    seen = view(even, frames[6].camera, truth)
    found = recall(other, seen, to_ask(other, seen, None, None, CONFIG.slots_asked), CONFIG)
    assert found.refined is not None
    assert np.linalg.norm((se3.inverse(truth) @ found.T_map_cam)[:3, 3]) < 0.05


def test_where_nothing_is_remembered_nothing_is_seen(memory, frames, rendered):
    away = rendered.T_world_cam[5] @ se3.exp([500.0, 0, 0, 0, 0, 0])
    seen = view(memory, frames[5].camera, away)
    assert len(seen.features.keypoints) == 0 and not seen.features.dense.any()
