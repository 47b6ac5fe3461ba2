"""Swept depth is kept where the neighbours' sweeps confirm it: on rendered images, judged by their
exact depth, and on a wall whose sweeps are exact.
"""

from dataclasses import replace

import numpy as np
import pytest
from rendered_sweeps import LOOKED_AT, relative_error, sweeps_of, views_of

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.monocular.consistent_depth import LEAST_SIMILARITY, consistent
from vggt3_ros.refinement.monocular.plane_sweep import InverseDepth

CAMERA = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
FAR = 2.5  # metres from the first camera to the wall


@pytest.fixture(scope="module")
def swept(frames, rendered):
    return sweeps_of(views_of(frames, rendered))


def test_what_neighbours_confirm_is_better(swept, rendered, frames):
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


def wall(forward=0.0, similarity=0.9):
    """The exact sweep of a camera so many metres before the first, which looks at the wall, and
    the camera's pose.
    """
    inverse = np.full((24, 32), 1 / (FAR - forward), np.float32)
    sweep = InverseDepth(inverse, np.full((24, 32), similarity, np.float32), 0.02)
    return sweep, CAMERA, se3.exp([0.05, 0.0, forward, 0, 0, 0])


def seen_first(neighbours, similarity=0.9):
    return consistent(wall(similarity=similarity)[0], CAMERA, wall()[2], neighbours)


def test_a_wall_keeps_its_depth_where_two_neighbours_see_it():
    depth, sure = seen_first([wall(0.1), wall(0.2), wall(-0.1)])
    assert depth.shape == sure.shape == (24, 32) and depth.dtype == np.float32
    inner = np.s_[3:-3, 3:-3]
    np.testing.assert_allclose(depth[inner], FAR, rtol=1e-5)
    assert sure[inner].all()


@pytest.mark.parametrize(
    "other, kept, mapped",
    # inverse depth of one of two neighbours, off by pixels of parallax: the tolerances are 1.5 and
    # 0.4 pixels
    [(0.3, True, True), (1.2, True, False), (1.8, False, False), (-1.8, False, False)],
)
def test_neighbours_agree_within_a_pixel_and_a_half_and_map_within_less(other, kept, mapped):
    sweep, camera, pose = wall(0.0)
    off = replace(sweep, inverse=sweep.inverse + np.float32(other * sweep.step))
    depth, sure = seen_first([wall(0.1), (off, camera, pose)])
    assert (depth[12, 16] > 0) == kept and sure[12, 16] == mapped
    if kept:  # the mean inverse depth of all three
        assert 1 / depth[12, 16] == pytest.approx(1 / FAR + other * sweep.step / 3, rel=1e-4)


def test_what_is_not_similar_is_neither_believed_nor_a_confirmation():
    unlike = LEAST_SIMILARITY - 0.05
    assert not seen_first([wall(0.1), wall(0.2)], similarity=unlike)[0].any()
    assert not seen_first([wall(0.1), wall(0.2, similarity=unlike)])[0].any()
    assert seen_first([wall(0.1)])[0].any()  # one neighbour is enough when there is no other


def test_without_neighbours_nothing_is_confirmed():
    depth, sure = seen_first([])
    assert not depth.any() and not sure.any()


def test_neighbours_that_look_elsewhere_confirm_nothing():
    behind = [(s, c, T @ se3.exp([0, 0, 0, 0, np.pi, 0])) for s, c, T in (wall(0.1), wall(0.2))]
    assert not seen_first(behind)[0].any()
