"""Localization mode: one image is asked about at a time, and what is believed moves map->odom."""

import logging
from concurrent.futures import Future

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.ros.node_config import GateConfig
from vggt3_ros.ros.output.gate import MapOdom
from vggt3_ros.ros.process.tracker import Tracker

T_MAP_ODOM = se3.exp([1.0, 0.5, 0, 0, 0, 0.3])


class Log(logging.LoggerAdapter):
    """Takes rclpy's options."""

    def log(self, level, message, *arguments, throttle_duration_sec=None, **options):
        super().log(level, message, *arguments, **options)


class Worker:
    """Answers when it is told to."""

    def __init__(self):
        self.asked = []

    def localize(self, image, camera, hint):
        self.asked.append((image, hint, Future()))
        return self.asked[-1][2]

    def answer(self, T_map_cam=None, **fields):
        result = {"code": "ok", "message": "", "T_map_cam": T_map_cam, "covariance": np.eye(6)}
        self.asked[-1][2].set_result(result | fields)


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def found():
    return []


@pytest.fixture
def tracker(worker, found):
    map_odom = MapOdom()
    map_odom.reset(None)
    tracker = Tracker(
        worker,
        map_odom,
        lambda: GateConfig(relocalization=0.5),
        lambda *pose: found.append(pose),
        Log(logging.getLogger("tracker"), {}),
    )
    tracker.start()
    return tracker


def test_a_found_image_places_the_odometry_and_is_the_hint_of_the_next(tracker, worker, found):
    keyframe, following = make_keyframe(0), make_keyframe(1)
    tracker.take(keyframe)
    assert worker.asked[0][1] is None
    worker.answer(T_MAP_ODOM @ keyframe.T_odom_cam)
    assert (tracker.asked, tracker.localized) == (1, 1)
    np.testing.assert_allclose(tracker._map_odom.T_map_odom, T_MAP_ODOM, atol=1e-9)
    ((stamp_ns, T_map_cam, covariance),) = found
    assert stamp_ns == keyframe.stamp_ns and covariance.shape == (6, 6)
    np.testing.assert_allclose(T_map_cam, T_MAP_ODOM @ keyframe.T_odom_cam, atol=1e-9)
    tracker.take(following)
    np.testing.assert_allclose(worker.asked[1][1], T_MAP_ODOM @ following.T_odom_cam, atol=1e-9)


def test_of_images_that_come_meanwhile_the_newest_is_next(tracker, worker):
    frames = [make_keyframe(k) for k in range(5)]
    for frame in frames:
        tracker.take(frame)
    assert len(worker.asked) == 1
    worker.answer(code="not_localized", message="another place")
    assert len(worker.asked) == 2 and worker.asked[1][0] is frames[4].image
    worker.answer(code="not_localized", message="another place")
    assert len(worker.asked) == 2 and (tracker.asked, tracker.localized) == (2, 0)


def test_a_far_jump_has_to_be_confirmed(tracker, worker, found):
    keyframe = make_keyframe(0)
    tracker.take(keyframe)
    worker.answer(T_MAP_ODOM @ keyframe.T_odom_cam)
    elsewhere = se3.exp([3.0, 0, 0, 0, 0, 0]) @ T_MAP_ODOM
    for seen in range(1, 4):
        tracker.take(keyframe)
        worker.answer(elsewhere @ keyframe.T_odom_cam)
        assert len(found) == (1 if seen < 3 else 2)
    np.testing.assert_allclose(tracker._map_odom.T_map_odom, elsewhere, atol=1e-9)
    assert tracker.localized == 4


def test_a_failed_request_does_not_stop_the_next_one(tracker, worker, caplog):
    tracker.take(make_keyframe(0))
    with caplog.at_level(logging.WARNING):
        worker.asked[0][2].set_exception(RuntimeError("the worker died"))
    assert "the worker died" in caplog.text
    tracker.take(make_keyframe(1))
    assert len(worker.asked) == 2


def test_an_answer_after_the_end_is_not_taken(tracker, worker, found):
    keyframe = make_keyframe(0)
    tracker.take(keyframe)
    tracker.take(make_keyframe(1))
    tracker.stop()
    worker.answer(T_MAP_ODOM @ keyframe.T_odom_cam)
    assert not found and tracker.asked == 0 and len(worker.asked) == 1
    tracker.take(make_keyframe(2))
    assert len(worker.asked) == 1
