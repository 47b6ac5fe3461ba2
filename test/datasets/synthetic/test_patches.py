import numpy as np
import pytest

from vggt3_ros.datasets.synthetic.patches import (
    arrange,
    box,
    curtain,
    cushion,
    disc,
    place,
    quad,
    tube,
)

IMAGE = np.zeros((8, 8, 3), np.uint8)


def centre_and_normal(patch):
    """Of the patch's middle; the normal points to where the texture is seen unmirrored: down x
    right.
    """
    rows, columns = patch.points.shape[:2]
    i, j = (rows - 1) // 2, (columns - 1) // 2
    a, right, down = patch.points[i, j], patch.points[i, j + 1], patch.points[i + 1, j]
    normal = np.cross(down - a, right - a)
    return patch.points[i : i + 2, j : j + 2].mean(axis=(0, 1)), normal / np.linalg.norm(normal)


def test_a_box_shows_its_fronts_outside():
    patches = box((1, 2, 3), (0.4, 0.6, 0.8), IMAGE)
    assert len(patches) == 6
    for patch in patches:
        centre, normal = centre_and_normal(patch)
        offset = centre - (1, 2, 3.4)
        assert np.allclose(normal, offset / np.linalg.norm(offset))
        assert np.abs(offset).max() == pytest.approx(np.dot(np.abs(normal), (0.2, 0.3, 0.4)))


def test_box_faces_take_their_own_image_and_can_be_left_out():
    other = IMAGE + np.uint8(9)
    patches = box((0, 0, 0), (1, 1, 1), {"s": other, "side": IMAGE}, skip="bt")
    assert len(patches) == 4
    south = [p for p in patches if centre_and_normal(p)[1][1] < -0.9]
    assert len(south) == 1 and south[0].texture is other


@pytest.mark.parametrize(
    "patch, expected",
    [
        (disc(0.5, 0.3, IMAGE), (0, 0, 1)),
        (cushion(0.5, 0.4, 0.1, IMAGE), (0, 0, 1)),
        (quad((0, 0, 1), (1, 0, 0), (0, 0, -1), IMAGE), (0, -1, 0)),
    ],
)
def test_round_and_flat_shapes_face_the_viewer(patch, expected):
    assert np.dot(centre_and_normal(patch)[1], expected) > 0.95


def test_a_tube_faces_outwards_and_closes():
    patch = tube([(0.2, 1.0), (0.2, 0.0)], IMAGE, segments=16)
    centre, normal = centre_and_normal(patch)
    assert np.dot(centre[:2], normal[:2]) > 0.9 * np.linalg.norm(centre[:2])
    assert np.allclose(patch.points[:, 0], patch.points[:, -1])
    assert patch.size == pytest.approx((2 * np.pi * 0.2, 1.0), rel=0.01)


def test_a_curtain_hangs_in_folds():
    patch = curtain(0.5, 1.5, 3, 0.04, IMAGE)
    assert patch.points[..., 0].max() == pytest.approx(0.5) and patch.points[
        ..., 2
    ].min() == pytest.approx(-1.5)
    assert 0.03 < patch.points[..., 1].max() <= 0.04 and patch.size[0] > 0.5


def test_things_are_turned_then_shifted():
    chair = [quad((0, -1, 1), (1, 0, 0), (0, 0, -1), IMAGE, emission=0.5)]
    (placed,) = place(chair, 5, 6, 7, 90)
    assert np.allclose(placed.points[0, 0], (6, 6, 8)) and placed.emission == 0.5
    assert np.allclose(centre_and_normal(placed)[1], (1, 0, 0))
    both = arrange((chair, 5, 6, 7, 90), (chair, 1, 0))
    assert np.allclose(both[0].points, placed.points) and np.allclose(
        both[1].points[0, 0], (1, -1, 1)
    )
