"""Loop closing as a whole: drift goes; two rooms that look the same stay two."""

import numpy as np
import pytest

from vggt3_ros import Backend, BackendConfig, KeyframeStore
from vggt3_ros.datasets import drift
from vggt3_ros.datasets.synthetic import apartment, twins
from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3
from vggt3_ros.refinement.closing import odometry_noise
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.stored_poses import StoredPoses


@pytest.fixture(scope="module")
def refined(refined_folder):
    return Snapshot.load(refined_folder / "snapshots" / "000001")


def test_drift_goes(rendered, refined):
    before, after = (
        trajectory_error(T, rendered.T_world_cam, rendered.stamps_ns)
        for T in (rendered.T_odom_cam, refined.T_map_cam)
    )
    # aligned by positions alone
    least = drift.trajectory_error(rendered.T_odom_cam, rendered.T_world_cam)
    # on this nearly straight path orientations join the alignment
    assert abs(least - 0.15) < 0.01 and before.ate_m >= least
    assert after.ate_m < 0.02 and after.rotation_deg < before.rotation_deg


def test_accepted_loops_are_true_and_rejected_ones_say_why(rendered, refined):
    accepted = [loop for loop in refined.loops if loop.accepted]
    assert len(accepted) > 30 and len(accepted) < len(refined.loops)
    for loop in accepted:
        truth = (
            se3.inverse(rendered.T_world_cam[loop.source_id])
            @ rendered.T_world_cam[loop.target_id]
        )
        error = se3.inverse(truth) @ loop.T_source_target
        assert np.linalg.norm(error[:3, 3]) < 0.15 and se3.rotation_angle(error) < 0.1
        assert loop.residual_m < 0.25 and loop.residual_rad < 0.15
        assert np.linalg.eigvalsh(loop.information).min() > 0
    assert all(loop.reason for loop in refined.loops if not loop.accepted)


def test_the_first_keyframe_stays_with_the_odometry_and_covariances_are_usable(rendered, refined):
    np.testing.assert_allclose(refined.T_map_cam[0], rendered.T_odom_cam[0], atol=1e-3)
    assert np.linalg.eigvalsh(refined.covariances).min() > 0
    assert np.trace(refined.covariances[0]) < np.trace(refined.covariances[-1])


def test_two_rooms_that_look_the_same_are_not_taken_for_one(tmp_path):
    sequence = apartment.twin_rooms(camera=apartment.CAMERA.scaled(320, 240), ate=0.2)
    room = np.where(
        sequence.groundtruth[:, 1, 3] > 3.3,
        0,
        np.where(sequence.groundtruth[:, 0, 3] < twins.APART - 0.4, 1, 2),
    )
    assert min((room == 1).sum(), (room == 2).sum()) > 10
    with KeyframeStore(tmp_path) as store:
        backend = Backend(
            store, BackendConfig.from_flat({"device": "cpu", "map.voxel_size": 0.08})
        )
        for keyframe in sequence.keyframes:
            backend.add(keyframe)
        snapshot = backend.refine()
    between = [
        loop for loop in snapshot.loops if {room[loop.source_id], room[loop.target_id]} == {1, 2}
    ]
    # Matching alone believes the copy: what keeps the rooms apart has to work.
    assert any(loop.inliers > 30 for loop in between)
    for loop in snapshot.loops:
        if loop.accepted:
            truth = (
                se3.inverse(sequence.groundtruth[loop.source_id])
                @ sequence.groundtruth[loop.target_id]
            )
            assert np.linalg.norm((se3.inverse(truth) @ loop.T_source_target)[:3, 3]) < 0.3
    after = trajectory_error(snapshot.T_map_cam, sequence.groundtruth, sequence.stamps_ns)
    assert after.ate_m < 0.09 and after.distances_m.max() < 0.2


def test_odometry_noise_is_the_front_ends_where_it_says_and_grows_with_motion_where_not(rendered):
    given = np.diag([1e-4, 2e-4, 3e-4, 1e-6, 2e-6, 3e-6])
    T = np.array(
        [
            np.eye(4),
            se3.exp([0.1, 0, 0, 0, 0, 0]),
            se3.exp([1.1, 0, 0, 0, 0, 0]),
            se3.exp([1.1, 0, 0, 0, 0, 1.0]),
        ]
    )
    poses = StoredPoses(np.arange(4), np.arange(4), T, [None, given, None, None])
    noise = odometry_noise(poses, BackendConfig().pose_graph)
    np.testing.assert_array_equal(noise[1], given)
    assert noise[2][0, 0] > noise[3][0, 0] and noise[3][3, 3] > noise[2][3, 3]
    assert np.linalg.eigvalsh(noise).min() > 0
