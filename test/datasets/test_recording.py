"""All frames of a data set, and the keyframes that are made of some."""

import numpy as np
import pytest

from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.sequence import Query
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera

CAMERA = Camera(8, 6, 8.0, 8.0, 3.5, 2.5)
STAMPS = np.arange(1, 6, dtype=np.int64) * 10**9
POSES = se3.exp(np.array([[0.1 * i, 0, 0, 0, 0, 0] for i in range(5)]))


def recording(**options):
    return Recording(
        "made",
        CAMERA,
        STAMPS,
        lambda i: np.full((6, 8, 3), i, np.uint8),
        **({"load_depth": lambda i: np.full((6, 8), 1.0 + i, np.float32)} | options),
    )


def test_keyframes_are_those_of_their_frames():
    query = Query(1, lambda: np.zeros((6, 8, 3), np.uint8))
    sequence = recording().keyframes(np.array([1, 4]), POSES[[1, 4]], POSES[[1, 4]], [query])
    assert len(recording()) == 5 and len(sequence) == 2 and sequence.name == "made"
    assert sequence.stamps_ns.tolist() == STAMPS[[1, 4]].tolist()
    second = sequence.keyframes[1]
    assert second.id == 1 and (second.image == 4).all() and (second.depth == 5).all()
    np.testing.assert_array_equal(sequence.T_odom_cam, POSES[[1, 4]])
    assert sequence.queries == [query] and second.odometry_covariance is None


def test_a_data_set_without_depth_gives_keyframes_without():
    sequence = recording(load_depth=None).keyframes(np.array([0, 2]), POSES[[0, 2]])
    assert sequence.keyframes[0].depth is None and sequence.groundtruth is None


def test_covariances_of_frames_add_up_between_keyframes():
    """Motions along x with the same covariance, without rotation: variances add."""
    each = np.diag([0.04, 0.01, 0.01, 1e-6, 1e-6, 1e-6])
    frames = recording(covariances=np.array([each] * 5), T_odom_cam=POSES)
    found = frames.keyframes(np.array([0, 3, 4]), POSES[[0, 3, 4]]).keyframes
    three, one = (found[k].odometry_covariance for k in (1, 2))
    assert three[0, 0] == pytest.approx(3 * 0.04, rel=1e-3)
    assert one[0, 0] == pytest.approx(0.04, rel=1e-3)


def test_a_step_of_which_nothing_is_known_leaves_the_motion_unknown():
    covariances = np.array([np.diag([0.01] * 6)] * 5)
    covariances[2] = 0
    frames = recording(covariances=covariances, T_odom_cam=POSES)
    found = frames.keyframes(np.array([0, 1, 3]), POSES[[0, 1, 3]]).keyframes
    assert found[1].odometry_covariance is not None and found[2].odometry_covariance is None


def test_a_function_of_the_motion_is_asked_from_keyframe_to_keyframe():
    asked = []

    def motion(earlier, later):
        asked.append((earlier, later))
        return np.eye(6) * later if later != 4 else None

    found = recording(motion=motion).keyframes(np.array([1, 3, 4]), POSES[[1, 3, 4]]).keyframes
    assert asked == [(1, 3), (3, 4)]
    assert found[1].odometry_covariance[0, 0] == 3
    assert found[0].odometry_covariance is found[2].odometry_covariance is None


def test_a_motion_that_is_nowhere_known_is_none():
    sequence = recording(motion=lambda i, j: None).keyframes(np.array([0, 1]), POSES[:2])
    assert sequence.keyframes.odometry_covariances is None
    alone = recording(motion=lambda i, j: np.eye(6)).keyframes(np.array([2]), POSES[2:3])
    assert alone.keyframes[0].odometry_covariance is None
