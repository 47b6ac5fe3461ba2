"""Localization mode under a front end that freezes, jumps or mismeasures: what is found in the map
is what counts, not the odometry.
"""

import logging
from concurrent.futures import Future

import numpy as np
import pytest

from vggt3_ros.benchmarks.faults import ALLOWED, FAULTS, faulty
from vggt3_ros.datasets.drift import drifting_odometry
from vggt3_ros.geometry import se3
from vggt3_ros.ros.node_config import GateConfig
from vggt3_ros.ros.output.gate import MapOdom
from vggt3_ros.ros.process.tracker import Tracker

SIGMA = np.array([0.006, 0.006, 0.006, 0.002, 0.002, 0.002])  # of a localization
SEEN_AGAIN = 3  # images in a row that must agree on a jump, and at first


class Localizing:
    """A worker that finds every image where it was taken, nearly, and hears the hints."""

    def __init__(self, truth, rng):
        self.poses, self.hints = (
            list(truth @ se3.exp(SIGMA * rng.standard_normal((len(truth), 6)))),
            [],
        )

    def localize(self, image, camera, hint):
        self.hints.append(hint)
        future = Future()
        future.set_result(
            {
                "code": "ok",
                "T_map_cam": self.poses[image].ravel().tolist(),
                "covariance": np.diag(SIGMA**2).ravel().tolist(),
            }
        )
        return future


class Logger:
    def __getattr__(self, name):
        return lambda text, throttle_duration_sec=0: logging.getLogger(__name__).info(text)


class Keyframe:
    def __init__(self, index, T_odom_cam):
        self.image, self.camera, self.stamp_ns, self.T_odom_cam = index, None, index, T_odom_cam


def localized(truth, T_odom_cam):
    """{stamp: T_map_cam} that localization mode publishes."""
    found, map_odom = {}, MapOdom()
    tracker = Tracker(
        Localizing(truth, np.random.default_rng(0)),
        map_odom,
        GateConfig,
        lambda stamp, pose, _: found.update({stamp: pose}),
        Logger(),
    )
    tracker.start()
    for k, pose in enumerate(T_odom_cam):
        tracker.take(Keyframe(k, pose))
    return found


def error(found, truth):
    return np.sqrt(np.mean([np.sum((found[k][:3, 3] - truth[k][:3, 3]) ** 2) for k in found]))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_no_accuracy_and_few_poses(fault, seed):
    angle = np.linspace(0, 4 * np.pi, 80)
    truth = np.array(
        [se3.exp([2 * np.cos(a), 2 * np.sin(a), 0.1 * np.sin(3 * a), 0, 0, a]) for a in angle]
    )
    odometry, _ = drifting_odometry(truth, seed, 0.3)
    unharmed, harmed = localized(truth, odometry), localized(truth, faulty(odometry, fault, seed))
    assert (
        len(unharmed)
        == 80 - (SEEN_AGAIN - 1)
        <= len(harmed) + (SEEN_AGAIN - 1) * len(FAULTS[fault])
    )
    assert error(harmed, truth) <= ALLOWED * error(unharmed, truth)
