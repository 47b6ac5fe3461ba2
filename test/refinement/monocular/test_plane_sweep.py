"""Depth by plane sweep on rendered images, judged by their exact depth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.monocular.consistent_depth import consistent
from vggt3_ros.refinement.monocular.plane_sweep import SweepView, _sharpened, sweep

LOOKED_AT = (3, 4, 5, 6, 7)


@pytest.fixture(scope="module")
def views(frames, rendered):
    return {
        i: SweepView(
            frames[i].camera, frames[i].gray, frames[i].features.dense, rendered.T_world_cam[i]
        )
        for i in range(len(frames))
    }


@pytest.fixture(scope="module")
def swept(views):
    return {
        i: sweep(views[i], [views[j] for j in LOOKED_AT if j != i], 0.4, 8.0) for i in LOOKED_AT
    }


def relative_error(depth, truth):
    truth = truth[::2, ::2]
    known = (truth > 0) & (depth > 0)
    return np.abs(depth[known] / truth[known] - 1), known.mean()


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


def test_what_neighbours_confirm_is_better(swept, views, rendered, frames):
    every, mapped = [], []
    for i in LOOKED_AT:
        neighbours = [
            (swept[j], frames[j].camera, rendered.T_world_cam[j]) for j in LOOKED_AT if j != i
        ]
        depth, sure = consistent(swept[i], frames[i].camera, rendered.T_world_cam[i], neighbours)
        assert depth.shape == swept[i].inverse.shape and depth.dtype == np.float32
        before, _ = relative_error(1 / swept[i].inverse, rendered.keyframes[i].depth)
        after, share = relative_error(depth, rendered.keyframes[i].depth)
        assert share > 0.2 and np.median(after) < 0.04
        assert (after > 0.1).mean() < (before > 0.1).mean()
        every.append(after)
        mapped.append(relative_error(depth * sure, rendered.keyframes[i].depth)[0])
    every, mapped = np.concatenate(every), np.concatenate(mapped)
    assert len(mapped) > 0.1 * len(every)
    assert (
        np.median(mapped) < 0.9 * np.median(every)
        and (mapped > 0.1).mean() < 0.7 * (every > 0.1).mean()
    )


def test_a_neighbour_that_contradicts_confirms_nothing(swept, frames, rendered):
    elsewhere = rendered.T_world_cam[5] @ se3.exp([0.5, 0, 0, 0, 0.3, 0])
    depth, _ = consistent(
        swept[4],
        frames[4].camera,
        rendered.T_world_cam[4],
        [(swept[5], frames[5].camera, elsewhere)],
    )
    assert (depth > 0).mean() < 0.1


def test_wrong_poses_give_little_similarity(views):
    moved = SweepView(
        views[5].camera,
        views[5].gray,
        views[5].dense,
        views[5].T_map_cam @ se3.exp([0, 0.3, 0, 0.4, 0, 0.4]),
    )
    right, wrong = (sweep(views[4], [other], 0.4, 8.0) for other in (views[5], moved))
    assert np.median(wrong.similarity) < np.median(right.similarity) - 0.2


def test_what_hardly_moves_between_the_images_is_not_mapped(swept, frames, rendered):
    """As if the neighbours stood so near that a pixel of parallax were a tenth of the depth at 2
    m.
    """
    neighbours = [
        (swept[j], frames[j].camera, rendered.T_world_cam[j]) for j in LOOKED_AT if j != 5
    ]
    depth, sure = consistent(
        replace(swept[5], step=0.05), frames[5].camera, rendered.T_world_cam[5], neighbours
    )
    assert sure.mean() > 0.05 and depth[sure].max() < 2.2 and depth.max() > 2.2
