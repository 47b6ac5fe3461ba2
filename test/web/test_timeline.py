"""The film of a refinement: real at its states, between them on the way."""

from dataclasses import replace

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.store.snapshot import Loop, Snapshot
from vggt3_ros.surface.fusion import empty_map
from vggt3_ros.web.timeline import Timeline, between, odometry

COUNT = 6


def loop(source, target, accepted=True):
    return Loop(source, target, accepted, "", "place", 40, np.eye(4), np.eye(6))


@pytest.fixture
def snapshots():
    """Two refinements of one walk: the first of four keyframes, the second of six."""
    rng = np.random.default_rng(0)
    odom = se3.exp(rng.normal(size=(COUNT, 6)))
    make = lambda generation, count, loops, size: Snapshot(
        generation,
        np.arange(count),
        np.arange(count) * 10**9,
        np.array(
            [pose @ se3.exp(size * rng.normal(size=6) * (k > 0)) for k, pose in enumerate(odom)]
        )[:count],
        odom[:count],
        np.zeros((count, 6, 6)),
        loops,
        empty_map(),
    )
    return (
        make(1, 4, (loop(2, 0), loop(3, 1, accepted=False)), 0.1),
        make(2, COUNT, (loop(2, 0), loop(3, 1), loop(5, 0), loop(4, 0)), 0.2),
    )


def test_the_states_are_the_odometry_and_what_each_refinement_published(snapshots):
    older, newest = snapshots
    timeline = Timeline.of(snapshots)
    assert timeline.end == 2.0
    np.testing.assert_allclose(timeline.at(0).T_map_cam, newest.T_odom_cam, atol=1e-9)
    np.testing.assert_allclose(timeline.at(1).T_map_cam[:4], older.T_map_cam, atol=1e-9)
    np.testing.assert_allclose(timeline.at(2).T_map_cam, newest.T_map_cam, atol=1e-9)
    # what the first refinement did not have goes on from it by odometry
    T_map_odom = older.T_map_cam[3] @ se3.inverse(older.T_odom_cam[3])
    np.testing.assert_allclose(
        timeline.at(1).T_map_cam[4:], T_map_odom @ newest.T_odom_cam[4:], atol=1e-9
    )
    assert "interpolated" not in timeline.at(1).text and "interpolated" in timeline.at(1.5).text


def test_loops_come_one_by_one_in_their_order_and_rejected_ones_never(snapshots):
    timeline = Timeline.of(snapshots)
    pairs = lambda place: [(x.source_id, x.target_id) for x in timeline.at(place).loops]
    assert pairs(0) == [] and pairs(1) == [(2, 0)]
    assert pairs(1.3) == [(2, 0), (3, 1)] and pairs(1.6) == [(2, 0), (3, 1), (5, 0)]
    assert pairs(2) == pairs(99) == [(2, 0), (3, 1), (5, 0), (4, 0)]


def test_between_two_poses_lies_a_pose_on_the_way():
    begin, end = np.eye(4)[None], se3.exp(np.array([[1.0, 0, 0, 0, 0, 1.0]]))
    middle = between(begin, end, 0.25)
    np.testing.assert_allclose(middle[0, :3, 3], [0.25, 0, 0], atol=1e-12)
    assert se3.rotation_angle(middle)[0] == pytest.approx(0.25)
    np.testing.assert_allclose(between(begin, end, 1.0), end)


def test_each_session_starts_where_the_map_has_it(snapshots):
    newest = replace(snapshots[1], sessions=np.array([0, 0, 0, 1, 1, 1]))
    before = odometry(newest)
    np.testing.assert_allclose(before[[0, 3]], newest.T_map_cam[[0, 3]], atol=1e-9)
    step = lambda poses: se3.inverse(poses[3]) @ poses[5]
    np.testing.assert_allclose(step(before), step(newest.T_odom_cam), atol=1e-9)
