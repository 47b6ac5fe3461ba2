"""vggt3 view --png: what a map shows is in the picture, where it must be."""

import cv2
import numpy as np
import pytest

from vggt3_ros.cli.main import main
from vggt3_ros.geometry import se3
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Loop, PointMap, Snapshot
from vggt3_ros.surface.export.picture import ACCEPTED, BACKGROUND, TRAJECTORY, draw, viewpoint

# a camera that looks along x, z up
LEVEL = se3.from_rotation_translation([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0, 0, 0])
RED, BLUE = (200, 0, 0), (0, 0, 200)


def snapshot(loops=()):
    poses = np.array([se3.exp([0.5 * k, 0, 0, 0, 0, 0]) @ LEVEL for k in range(5)])
    return Snapshot(
        1,
        np.arange(5),
        np.arange(5) * 10**9,
        poses,
        poses,
        np.tile(np.eye(6), (5, 1, 1)),
        tuple(loops),
        boxes(),
    )


def boxes():
    """A red box left of the way, a blue one right of it."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [
            rng.uniform(-0.3, 0.3, (4000, 3)) + (1, 1.5, 0),
            rng.uniform(-0.3, 0.3, (4000, 3)) + (1, -1.5, 0),
        ]
    )
    return PointMap(
        points.astype(np.float32),
        np.repeat([RED, BLUE], 4000, axis=0).astype(np.uint8),
        np.ones(8000, np.float32),
    )


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


def test_the_command_writes_a_picture_or_one_line(tmp_path, capsys, monkeypatch):
    with KeyframeStore(tmp_path / "map") as store:
        store.snapshots.mkdir()
        snapshot().save(store.snapshots / "000001")
    assert (
        main(
            [
                "view",
                str(tmp_path / "map"),
                "--png",
                str(tmp_path / "map.png"),
                "--size",
                "200x150",
            ]
        )
        == 0
    )
    assert "5 keyframes, 8000 points" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "map.png")).shape == (150, 200, 3)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for arguments, text in (
        ([str(tmp_path)], "is not a saved map"),
        ([str(tmp_path / "map")], "--png FILE"),
        ([str(tmp_path / "map"), "--size", "9"], "--size must be"),
        ([str(tmp_path / "map"), "--png", str(tmp_path / "none" / "map.png")], "cannot write"),
    ):
        assert main(["view", *arguments]) == 2
        assert text in capsys.readouterr().err
