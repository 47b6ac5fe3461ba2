"""A pose is believed where the image looks as the map says it should from there, and not where it
does not.
"""

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.memory.appearance import agreement, map_similarity


@pytest.fixture(scope="module")
def seen(frames, rendered):
    """The map of all keyframes but one, and that one as the query."""
    others = [
        (frame, pose)
        for k, (frame, pose) in enumerate(zip(frames, rendered.T_world_cam))
        if k in (3, 5)
    ]
    return frames[4], others, rendered.T_world_cam[4]


def test_the_true_pose_looks_like_the_map(seen):
    alike, shown = agreement(map_similarity(*seen))
    assert alike > 0.85 and shown > 0.5


@pytest.mark.parametrize("metres, degrees", [(0.5, 0), (0, 20), (1.0, 45)])
def test_a_wrong_pose_does_not(seen, metres, degrees):
    query, others, truth = seen
    alike, _ = agreement(
        map_similarity(query, others, truth @ se3.exp([metres, 0, 0, 0, np.radians(degrees), 0]))
    )
    assert alike < 0.75 and alike < agreement(map_similarity(*seen))[0] - 0.1


def test_similarity_lies_where_the_map_has_something(seen):
    query, _others, truth = seen
    left_half = [
        (
            replace(
                frame,
                cell_depth=np.where(
                    np.arange(frame.cell_depth.shape[1]) < 40, frame.cell_depth, 0
                ),
            ),
            pose,
        )
        for frame, pose in [(query, truth)]
    ]
    similarity = map_similarity(query, left_half, truth)
    assert similarity.shape == query.features.reliability.shape
    # each cell against itself
    assert np.isnan(similarity[:, 41:]).all() and np.nanmin(similarity[:, :39]) > 0.99


def test_a_map_without_depth_or_behind_the_camera_shows_nothing(seen):
    query, others, truth = seen
    blind = [
        (replace(frame, cell_depth=np.zeros_like(frame.cell_depth)), pose)
        for frame, pose in others
    ]
    assert agreement(map_similarity(query, blind, truth)) == (0.0, 0.0)
    assert agreement(map_similarity(query, [], truth)) == (0.0, 0.0)
    behind = [(query, truth @ se3.exp([0, 0, 0, 0, np.pi, 0]))]
    assert agreement(map_similarity(query, behind, truth))[1] == 0.0
