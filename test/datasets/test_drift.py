import numpy as np
import pytest

from vggt3_ros.datasets.drift import drifting_odometry, trajectory_error
from vggt3_ros.datasets.synthetic.walk import look
from vggt3_ros.geometry import se3

T = np.linspace(0, 2 * np.pi, 80)
CIRCLE = look(2 * np.cos(T), 2 * np.sin(T), 1.4, np.degrees(T) + 90, -5.0)


def test_error_is_what_was_asked_for():
    for ate in (0.05, 0.35, 1.0):
        odometry, _ = drifting_odometry(CIRCLE, seed=3, ate=ate)
        assert trajectory_error(odometry, CIRCLE) == pytest.approx(ate, rel=1e-3)


def test_trajectory_error_is_the_one_evo_reports():
    from evo.core.metrics import APE, PoseRelation
    from evo.core.trajectory import PosePath3D

    odometry, _ = drifting_odometry(CIRCLE, ate=0.3)
    truth, estimate = PosePath3D(poses_se3=list(CIRCLE)), PosePath3D(poses_se3=list(odometry))
    estimate.align(truth)
    metric = APE(PoseRelation.translation_part)
    metric.process_data((truth, estimate))
    assert trajectory_error(odometry, CIRCLE) == pytest.approx(
        metric.get_all_statistics()["rmse"], rel=1e-6
    )


def test_seed_decides():
    first, again, other = (drifting_odometry(CIRCLE, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.allclose(first, other, atol=0.01)


def test_odometry_starts_upright_above_its_origin_and_stays_rigid():
    odometry, _ = drifting_odometry(CIRCLE)
    assert np.allclose(odometry[0, :3, 3], (0, 0, 1.4), atol=1e-9)
    assert np.allclose(
        odometry[0, :3, 2], (np.cos(np.radians(5)), 0, -np.sin(np.radians(5))), atol=1e-9
    )
    assert np.allclose(
        odometry[:, :3, :3] @ odometry[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-9
    )


def test_covariances_agree_with_the_errors_made():
    """The squared Mahalanobis distance of true motions has mean 1 per dimension when a covariance
    is honest.
    """
    ratios = []
    for seed in range(12):
        odometry, covariances = drifting_odometry(CIRCLE, seed)
        true, measured = (se3.inverse(poses[:-1]) @ poses[1:] for poses in (CIRCLE, odometry))
        errors = se3.log(se3.inverse(true) @ measured)
        ratios.append(
            np.mean(np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances[1:]), errors)) / 6
        )
    assert 0.7 < np.mean(ratios) < 1.4


def test_paths_without_motion_are_refused():
    with pytest.raises(ValueError, match="does not move"):
        drifting_odometry(np.tile(np.eye(4), (5, 1, 1)))
    with pytest.raises(ValueError, match="at least 3"):
        drifting_odometry(CIRCLE[:2])
