"""What a map shows is in the picture, where it must be."""

import numpy as np
import pytest
from boxes import BLUE, RED, boxes, snapshot

from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot
from vggt3_ros.surface.export.picture import ACCEPTED, BACKGROUND, TRAJECTORY, draw, viewpoint


def where(picture, color):
    """(pixels of a colour, their mean row, column)"""
    rows, columns = np.nonzero((picture == color).all(axis=-1))
    return len(rows), rows.mean() if len(rows) else None, columns.mean() if len(columns) else None


def test_boxes_and_trajectory_are_seen_from_above_and_loops_only_when_accepted():
    picture = draw(snapshot(), boxes(), (320, 240))
    assert picture.shape == (240, 320, 3)
    assert (
        min(where(picture, color)[0] for color in (RED, BLUE, TRAJECTORY)) > 20
        and where(picture, ACCEPTED)[0] == 0
    )
    assert where(picture, BACKGROUND)[0] > 10_000
    loops = [Loop(0, 4, True, "", "memory", 50), Loop(1, 3, False, "too few", "place", 3)]
    assert (
        where(draw(snapshot([Loop(0, 4, False, "", "place", 1)]), boxes(), (320, 240)), ACCEPTED)[
            0
        ]
        == 0
    )
    # straight down, x up in the picture
    view = se3.from_rotation_translation([[0, 1, 0], [1, 0, 0], [0, 0, -1]], [1, 0, 5])
    assert where(draw(snapshot(loops), boxes(), (320, 240), view), TRAJECTORY)[0] > 20


def test_left_stays_left():
    # columns grow along -y, rows along -x
    down = se3.from_rotation_translation([[0, -1, 0], [-1, 0, 0], [0, 0, -1]], [1, 0, 6])
    picture = draw(snapshot(), boxes(), (320, 240), down)
    # y is left of x
    assert where(picture, RED)[2] < 160 - 20 and where(picture, BLUE)[2] > 160 + 20


def test_the_nearer_hides_the_farther():
    points = np.array([[0, 0, 1], [0, 0, 3]], np.float32).repeat(2, axis=0)
    colors = np.array([RED, BLUE], np.uint8).repeat(2, axis=0)
    nobody = Snapshot(
        1,
        np.zeros(0, int),
        np.zeros(0, int),
        np.zeros((0, 4, 4)),
        np.zeros((0, 4, 4)),
        np.zeros((0, 6, 6)),
        (),
        boxes(),
    )
    picture = draw(nobody, PointMap(points, colors, np.ones(4, np.float32)), (64, 64), np.eye(4))
    assert where(picture, RED)[0] == 4 and where(picture, BLUE)[0] == 0


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((1, 3)),
        np.zeros((5, 3)),
        np.eye(3)[:2],
        np.array([[0, 0, 0], [0, 0, 2.0], [0, 0, 4]]),
    ],
)
@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0)])
def test_any_points_can_be_looked_at(points, up):
    view = viewpoint(points, np.array(up, float))
    se3.check(view, "view")
    assert (se3.transform_points(se3.inverse(view), points)[:, 2] > 0).all()
