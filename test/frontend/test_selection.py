"""Keyframe selection by motion, overlap and time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.frontend.selection import KeyframeSelector, SelectionConfig, grid_points
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
LIMITS = SelectionConfig(
    translation=0.3, rotation=0.3, overlap=0.0, shortest=0.0, longest=0.0, depth=2.0
)
SECOND = 10**9


def chosen(poses, limits, seconds=0.1, depth=None):
    selector, reasons = KeyframeSelector(), []
    for i, pose in enumerate(poses):
        stamp = 10**18 + int(i * seconds * SECOND)
        reasons.append(selector.reason(stamp, pose, CAMERA, limits))
        if reasons[-1]:
            selector.keep(stamp, pose, CAMERA, depth)
    return reasons


@given(st.floats(0.01, 0.2), st.floats(0.1, 2.0))
def test_keyframes_are_spaced_as_configured(step, apart):
    poses = se3.exp(np.arange(60)[:, None] * np.array([step, 0, 0, 0, 0, 0]))
    reasons = chosen(poses, replace(LIMITS, translation=apart))
    positions = poses[[i for i, reason in enumerate(reasons) if reason], 0, 3]
    assert reasons[0] == "first" and set(reasons[1:]) <= {"", "translation"}
    gaps = np.diff(positions)
    assert np.all(gaps >= apart - 1e-9) and np.all(gaps < apart + step + 1e-9)


def test_an_image_from_before_a_restart_of_the_clock_is_not_skipped_silently():
    """A bag that begins again: whoever stores keyframes must hear of it, and refuses it by
    name.
    """
    selector = KeyframeSelector()
    selector.keep(10**18, np.eye(4), CAMERA)
    assert {
        selector.reason(10**18 - age, np.eye(4), CAMERA, LIMITS)
        for age in (SECOND + 1, 3600 * SECOND)
    } == {"clock"}
    # the same image again
    assert selector.reason(10**18, se3.exp([3.0, 0, 0, 0, 0, 0]), CAMERA, LIMITS) == ""


def test_turning_on_the_spot_counts():
    poses = se3.exp(np.arange(20)[:, None] * np.array([0, 0, 0, 0, 0.101, 0]))
    assert [i for i, reason in enumerate(chosen(poses, LIMITS)) if reason] == [
        0,
        3,
        6,
        9,
        12,
        15,
        18,
    ]


def test_standing_still_gives_one_keyframe_or_one_every_so_often():
    poses = np.tile(np.eye(4), (50, 1, 1))
    assert sum(map(bool, chosen(poses, replace(LIMITS, overlap=0.9)))) == 1
    reasons = chosen(poses, replace(LIMITS, longest=1.0))
    assert [i for i, reason in enumerate(reasons) if reason] == [0, 10, 20, 30, 40] and reasons[
        10
    ] == "time"


def test_keyframes_are_never_closer_than_the_shortest_interval():
    poses = se3.exp(np.arange(20)[:, None] * np.array([1.0, 0, 0, 0, 0, 0]))
    assert [
        i for i, reason in enumerate(chosen(poses, replace(LIMITS, shortest=0.5))) if reason
    ] == [0, 5, 10, 15]


@pytest.mark.parametrize("distance, sideways", [(0.5, 0.12), (2.0, 0.49), (8.0, 1.95)])
def test_overlap_is_what_the_depth_says(distance, sideways):
    """Moved sideways before a wall: the share still seen is 1 - motion * fx / distance / width, a
    fifth lost at `sideways`.
    """
    only = replace(LIMITS, translation=0.0, rotation=0.0, overlap=0.8)
    depth = np.full((480, 640), distance, np.float32)
    depth[:, ::3] = 0  # a third unknown
    for motion, reason in ((0.8 * sideways, ""), (1.2 * sideways, "overlap")):
        assert (
            chosen([np.eye(4), se3.exp([motion, 0, 0, 0, 0, 0])], only, depth=depth)[1] == reason
        )
        assert (
            chosen([np.eye(4), se3.exp([motion, 0, 0, 0, 0, 0])], replace(only, depth=distance))[1]
            == reason
        )


def test_looking_away_is_no_overlap_whatever_the_depth():
    only = replace(LIMITS, translation=0.0, rotation=0.0, overlap=0.05)
    assert chosen([np.eye(4), se3.exp([0, 0, 0, 0, np.pi, 0])], only)[1] == "overlap"
    # through the wall at 2 m
    assert (
        chosen([np.eye(4), se3.exp([0, 0, 5.0, 0, 0, 0])], replace(only, overlap=0.2))[1]
        == "overlap"
    )


def test_a_new_track_begins_with_a_keyframe():
    selector = KeyframeSelector()
    selector.keep(5, np.eye(4), CAMERA)
    assert not selector.reason(6, np.eye(4), CAMERA, LIMITS)
    selector.forget()
    assert selector.reason(7, np.eye(4), CAMERA, LIMITS) == "first"


def test_an_older_image_is_no_keyframe():
    selector = KeyframeSelector()
    selector.keep(5 * SECOND, np.eye(4), CAMERA)
    assert not selector.reason(4 * SECOND, se3.exp([9.0, 0, 0, 0, 0, 0]), CAMERA, LIMITS)


def test_too_little_depth_counts_as_none():
    depth = np.zeros((480, 640), np.float32)
    assert grid_points(CAMERA, depth)[1] is None
    depth[:240] = 3.0
    depth[:, 0] = np.nan
    rays, known = grid_points(CAMERA, depth)
    assert len(rays) == len(known) == 96 and set(known) == {3.0}
