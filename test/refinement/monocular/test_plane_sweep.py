"""Depth by plane sweep on rendered images, judged by their exact depth."""

import numpy as np
import pytest
import torch
from rendered_sweeps import LOOKED_AT, relative_error, sweeps_of, views_of

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.monocular.plane_sweep import SweepView, _sharpened, sweep


@pytest.fixture(scope="module")
def views(frames, rendered):
    return views_of(frames, rendered)


@pytest.fixture(scope="module")
def swept(views):
    return sweeps_of(views)


def test_depth_is_right_to_a_few_percent(swept, rendered):
    errors = [
        np.median(relative_error(1 / swept[i].inverse, rendered.keyframes[i].depth)[0])
        for i in LOOKED_AT
    ]
    assert np.median(errors) < 0.03, errors


def test_a_surface_half_a_pixel_off_is_put_right(swept, views):
    found, neighbours = swept[5], [views[j] for j in LOOKED_AT if j != 5]
    off = torch.from_numpy(found.inverse + np.float32(0.5 * found.step))
    again, _ = _sharpened(views[5], neighbours, off, found.step, (1 / 8.0, 1 / 0.4), "cpu")
    textured = found.similarity > 0.6
    assert textured.mean() > 0.2
    assert np.median(np.abs(again.numpy() - found.inverse)[textured]) < 0.15 * found.step


def test_wrong_poses_give_little_similarity(views):
    moved = SweepView(
        views[5].camera,
        views[5].gray,
        views[5].dense,
        views[5].T_map_cam @ se3.exp([0, 0.3, 0, 0.4, 0, 0.4]),
    )
    right, wrong = (sweep(views[4], [other], 0.4, 8.0) for other in (views[5], moved))
    assert np.median(wrong.similarity) < np.median(right.similarity) - 0.2
