from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import textures
from vggt3_ros.datasets.synthetic.lighting import Lamp
from vggt3_ros.datasets.synthetic.patches import box, disc, quad
from vggt3_ros.datasets.synthetic.render import Renderer
from vggt3_ros.datasets.synthetic.walk import look
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(160, 120, 130.0, 132.0, 79.0, 60.0)
SIZE = np.array([4.0, 3.0, 2.5])
LAMP = Lamp(
    np.array([1.8, 1.3, 2.4]),
    np.array([0.4, 0, 0]),
    np.array([0, 0.4, 0]),
    np.array([0, 0, -1.0]),
    np.full(3, 50.0),
)
INSIDE = look(1.0, 0.9, 1.4, 35, -12, 4)


def room(image=None):
    """A box seen from within: its columns are reversed, so that the fronts are inside."""
    image = (
        textures.stone(np.random.default_rng(0), (600, 800), (180, 170, 150), 0.2)
        if image is None
        else image
    )
    return [
        replace(patch, points=patch.points[:, ::-1])
        for patch in box(SIZE * (0.5, 0.5, 0), SIZE, image)
    ]


@pytest.fixture(scope="module")
def renderer():
    return Renderer(room(), [LAMP])


def rays(camera, pose):
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return camera.unproject(np.stack([x, y], -1), np.ones(x.shape)) @ pose[:3, :3].T


def test_depth_is_exact(renderer):
    frame = renderer.render(CAMERA, INSIDE)
    directions = rays(CAMERA, INSIDE)
    with np.errstate(divide="ignore"):
        to_walls = np.maximum(-INSIDE[:3, 3] / directions, (SIZE - INSIDE[:3, 3]) / directions)
    assert frame.depth.shape == (120, 160) and frame.depth.dtype == np.float32
    assert np.allclose(frame.depth, to_walls.min(axis=-1), rtol=2e-6)


def test_incidence_is_the_cosine_to_the_normal(renderer):
    pose = look(2.0, 1.5, 1.25, 0)
    frame = renderer.render(CAMERA, pose)
    directions = rays(CAMERA, pose)
    assert frame.incidence[60, 79] == pytest.approx(1, abs=1e-5)
    assert frame.incidence[60, 5] == pytest.approx(
        directions[60, 5, 0] / np.linalg.norm(directions[60, 5]), abs=1e-5
    )


def warped(first, second, T_second_first):
    """Surface points of `first` looked up in `second`: share whose depth agrees, median difference
    of their colours.
    """
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width]
    points = se3.transform_points(
        T_second_first, CAMERA.unproject(np.stack([x, y], -1), first.depth)
    )
    pixels = np.rint(CAMERA.project(points)).astype(int)
    seen = (
        (points[..., 2] > 0)
        & (pixels >= 0).all(-1)
        & (pixels < (CAMERA.width, CAMERA.height)).all(-1)
    )
    u, v = pixels[seen].T
    agrees = np.abs(second.depth[v, u] - points[seen][:, 2]) < 0.02
    assert seen.mean() > 0.4
    return agrees.mean(), np.median(np.abs(first.color[seen] - second.color[v, u]))


def test_colours_follow_depth_and_pose(renderer):
    other = INSIDE @ se3.exp([0.12, -0.03, 0.1, 0.02, 0.12, 0.05])
    first, second = (renderer.render(CAMERA, pose) for pose in (INSIDE, other))
    T_second_first = se3.inverse(other) @ INSIDE
    agrees, difference = warped(first, second, T_second_first)
    assert agrees > 0.95 and difference < 4
    agrees_wrongly, wrong_difference = warped(
        first, second, se3.exp([0, 0, 0, 0, 0.06, 0.04]) @ T_second_first
    )
    assert agrees_wrongly < 0.5 and wrong_difference > 2 * difference


def test_texture_is_neither_mirrored_nor_upside_down():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20, :20], image[:20, 20:], image[20:, :20] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    wall = quad((-1, 2, 1), (2, 0, 0), (0, 0, -2), image, emission=1.0)  # faces -y
    frame = Renderer([wall], []).render(CAMERA, look(0, 0, 0, 90))
    assert (
        frame.color[40, 60].argmax() == 0
        and frame.color[40, 100].argmax() == 1
        and frame.color[80, 60].argmax() == 2
    )
    assert frame.color[80, 100].max() == 0 and frame.color[40, 60].max() > 250
    assert frame.depth[20, 40] == pytest.approx(2, rel=1e-5)


def test_where_nothing_is_depth_is_zero():
    frame = Renderer([disc(0, 0.2, np.full((8, 8, 3), 200, np.uint8))], []).render(
        CAMERA, look(0, -3, 0.5, 90, -9)
    )
    assert (frame.depth > 0).any() and (frame.depth[:50] == 0).all()
    assert (frame.color[:50] == 0).all() and (frame.incidence[:50] == 0).all()


def test_fine_texture_far_away_turns_even_instead_of_flickering():
    check = (
        np.kron(np.indices((128, 128)).sum(0) % 2, np.ones((2, 2)))[..., None].repeat(3, 2) * 255
    )
    board = lambda y: [
        quad((-1, y, 1), (2, 0, 0), (0, 0, -2), check.astype(np.uint8), emission=1.0)
    ]
    near, far = (
        Renderer(board(y), []).render(CAMERA, look(0, 0, 0, 90)).color[50:70, 70:90]
        for y in (0.5, 8)
    )
    assert near.std() > 60 and far.std() < 12
    assert far.mean() == pytest.approx(127, abs=5)


def test_light_falls_off_and_casts_shadows():
    plate = box((2.0, 1.5, 0.7), (0.8, 0.8, 0.02), np.full((8, 8, 3), 120, np.uint8))

    def floor_color(patches, x, y):
        return (
            Renderer(patches, [LAMP]).render(CAMERA, look(x, y, 0.5, 0, -89)).color[60, 79].mean()
        )

    grey = room(np.full((64, 64, 3), 150, np.uint8))
    lit, shaded, corner = (
        floor_color(grey, 2.0, 1.5),
        floor_color(grey + plate, 2.0, 1.5),
        floor_color(grey, 0.2, 0.2),
    )
    assert shaded < 0.8 * lit and corner < 0.95 * lit


def test_the_same_seed_gives_the_same_frame():
    frames = [Renderer(room(), [LAMP], seed=1).render(CAMERA, INSIDE).color for _ in range(2)]
    assert np.array_equal(*frames)
