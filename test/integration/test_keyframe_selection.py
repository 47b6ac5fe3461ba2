"""Parameters selection.*: which images of plain topics become keyframes, each limit by itself,
over DDS.
"""

import time

import numpy as np
import pytest
from camera_rig import CAMERA, MS, START_NS, CameraRig
from rclpy.parameter import Parameter

from vggt3_ros.geometry import se3

NONE = {
    "selection__translation": 0.0,
    "selection__rotation": 0.0,
    "selection__overlap": 0.0,
    "selection__shortest": 0.0,
}
AT_THE_CAMERA = {"input__base_to_camera": "0 0 0 0 0 0 1"}


def start(graph, **limits):
    rig = CameraRig(graph)
    backend = graph.backend(
        wait=False, input__source="odometry", **{**NONE, **AT_THE_CAMERA, **limits}
    )
    rig.meet(backend)
    return rig, backend


def shoot(rig, backend, poses, begin=0):
    """An image with its pose each 100 ms; which of them were taken."""
    for number, pose in enumerate(poses, begin):
        rig.pose(number * 100, pose)
        rig.image(number, number * 100)
    sync = backend._active_parts.input._sync
    last = START_NS + (begin + len(poses)) * 100 * MS
    taken, before = None, []
    while sync._waiting or taken != before:  # messages may still be on their way
        before = taken
        time.sleep(1.0)
        taken = [
            (stamp - START_NS) // (100 * MS)
            for stamp in backend._core.store.poses().stamps_ns.tolist()
            if stamp < last
        ]
    return taken


def turns(radians, count):
    """A camera that turns about its vertical axis."""
    return [se3.exp([0, 0, 0, 0, radians * k, 0]) for k in range(count)]


def test_by_rotation(graph):
    rig, backend = start(graph, selection__rotation=0.199)
    assert shoot(rig, backend, turns(0.05, 13)) == [0, 4, 8, 12]


def test_by_overlap(graph):
    """Where less than 0.6 of what the last keyframe saw is still seen."""
    rig, backend = start(graph, selection__overlap=0.6)
    columns = np.arange(CAMERA.width)
    # of the rays in the middle row; the lens bends them by less than a degree
    angles = np.arctan((columns - CAMERA.cx) / CAMERA.fx)

    def seen(turn):
        left, right = angles[0], angles[-1]
        return np.mean((angles - turn > left) & (angles - turn < right))

    step = 0.04
    first = next(k for k in range(1, 100) if seen(step * k) < 0.6)
    taken = shoot(rig, backend, turns(step, 2 * first + 3))
    assert taken[0] == 0 and len(taken) == 3 and np.all(np.abs(np.diff(taken) - first) <= 1)


def test_by_time_a_standing_robot_sends_some_too(graph):
    rig, backend = start(graph, selection__longest=0.5)
    assert shoot(rig, backend, [np.eye(4)] * 13) == [0, 5, 10]


def test_never_closer_than_the_shortest_time(graph):
    rig, backend = start(graph, selection__translation=0.01, selection__shortest=0.35)
    assert shoot(rig, backend, [se3.exp([0.05 * k, 0, 0, 0, 0, 0]) for k in range(9)]) == [0, 4, 8]


def test_a_standing_robot_with_the_defaults_sends_one(graph):
    rig, backend = start(
        graph,
        selection__translation=0.2,
        selection__rotation=0.25,
        selection__overlap=0.7,
        selection__shortest=0.1,
    )
    assert shoot(rig, backend, [np.eye(4)] * 8) == [0]


@pytest.mark.parametrize(
    "name, value, refused",
    [("selection.translation", 0.099, 2e6), ("selection.longest", 0.3, -1.0)],
)
def test_limits_may_change_while_running(graph, name, value, refused):
    rig, backend = start(graph)
    walk = [se3.exp([0.05 * k, 0, 0, 0, 0, 0]) for k in range(14)]
    assert shoot(rig, backend, walk[:4]) == [0]
    assert not backend.set_parameters([Parameter(name, value=refused)])[0].successful
    assert backend.set_parameters([Parameter(name, value=value)])[0].successful
    step = 2 if name.endswith("translation") else 3
    assert shoot(rig, backend, walk[4:], begin=4) == [0, *range(4, 14, step)]
