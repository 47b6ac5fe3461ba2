"""Errors of trajectories against those put in by hand, and after which alignment."""

import numpy as np
import pytest
from evo.core.trajectory import PoseTrajectory3D
from round_trips import round_trip

from vggt3_ros.evaluation.trajectory import trajectory_error
from vggt3_ros.geometry import se3

TRUTH = round_trip(50)
STAMPS = 10**18 + 10**8 * np.arange(50)


def test_a_moved_trajectory_has_no_error_and_the_alignment_brings_it_back():
    moved = se3.exp([3, -2, 1, 0.3, 0.2, -2.0])
    error = trajectory_error(moved @ TRUTH, TRUTH, STAMPS)
    assert error.ate_m < 1e-6 and error.rotation_deg < 1e-4
    np.testing.assert_allclose(error.T_truth_estimate @ moved, np.eye(4), atol=1e-6)


def test_ate_is_the_root_mean_square_of_what_alignment_leaves():
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.standard_normal((50, 3))
    estimate = TRUTH.copy()
    estimate[:, :3, 3] += noise
    error = trajectory_error(estimate, TRUTH, STAMPS)
    assert error.ate_m == pytest.approx(np.sqrt((noise**2).sum(axis=1).mean()), rel=0.1)
    assert error.ate_m == pytest.approx(np.sqrt(np.mean(error.distances_m**2)))


def test_rotation_error_is_in_degrees():
    turned = TRUTH @ se3.exp(
        np.stack(
            [np.array([0, 0, 0, np.radians(2) * sign, 0, 0]) for sign in np.tile([1, -1], 25)]
        )
    )
    assert trajectory_error(turned, TRUTH, STAMPS).rotation_deg == pytest.approx(2, abs=0.01)


def test_scale_is_not_corrected():
    half = TRUTH.copy()
    half[:, :3, 3] *= 0.5
    assert trajectory_error(half, TRUTH, STAMPS).ate_m > 0.5


def test_keyframes_without_truth_are_left_out():
    gaps = TRUTH.copy()
    gaps[::3] = np.nan
    error = trajectory_error(TRUTH, gaps, STAMPS)
    assert (
        error.ate_m < 1e-9 and len(error.distances_m) == np.isfinite(gaps).all(axis=(1, 2)).sum()
    )
    gaps[2:] = np.nan
    with pytest.raises(ValueError, match="of 50 keyframes have a true pose; 3 are needed"):
        trajectory_error(TRUTH, gaps, STAMPS)


def straight(noise_m, noise_rad, count=60, seed=0):
    """A drive along a straight street: (estimate, truth)."""
    rng = np.random.default_rng(seed)
    truth = np.tile(se3.exp([2.0, 1.0, 0.5, 0.3, -0.4, 0.8]), (count, 1, 1)) @ se3.exp(
        np.linspace(0, 1, count)[:, None] * [0, 0, 30.0, 0, 0, 0]
    )
    noise = np.concatenate(
        [noise_m * rng.standard_normal((count, 3)), noise_rad * rng.standard_normal((count, 3))],
        axis=1,
    )
    return se3.exp([5.0, -2.0, 0.1, 0.4, 0.2, 1.5]) @ truth @ se3.exp(noise), truth


@pytest.mark.parametrize("noise_m", [0.0, 1e-9, 0.02, 0.3])
def test_on_a_straight_street_orientations_tell_the_turn_about_it(noise_m):
    for seed in range(8):
        estimate, truth = straight(noise_m, np.radians(1), seed=seed)
        error = trajectory_error(estimate, truth, 10**18 + 10**8 * np.arange(60))
        assert error.aligned_by == "positions and orientations"
        assert error.rotation_deg < 3 and error.ate_m < 2 * noise_m + 0.01


def test_a_camera_that_stands_is_aligned_by_its_orientations():
    rng = np.random.default_rng(0)
    truth = np.tile(se3.exp([2.0, 1.0, 0.5, 0.3, -0.4, 0.8]), (20, 1, 1)) @ se3.exp(
        np.concatenate([np.zeros((20, 3)), rng.normal(0, 0.5, (20, 3))], 1)
    )
    error = trajectory_error(
        se3.exp([5.0, -2.0, 0.1, 0.4, 0.2, 1.5]) @ truth, truth, 10**18 + 10**8 * np.arange(20)
    )
    assert (
        error.ate_m < 1e-6
        and error.rotation_deg < 1e-3
        and error.aligned_by == "positions and orientations"
    )


@pytest.mark.parametrize("correct_scale", [False, True])
def test_where_positions_determine_the_alignment_it_is_that_of_evo(correct_scale):
    """However bad the orientations are, and where the path has some breadth."""
    rng = np.random.default_rng(1)
    estimate = (
        se3.exp([3, -2, 1, 0.3, 0.2, -2.0])
        @ TRUTH
        @ se3.exp(rng.normal(0, (0.05,) * 3 + (0.3,) * 3, (50, 6)))
    )
    ours = trajectory_error(estimate, TRUTH, STAMPS, correct_scale)
    theirs, truth = (
        PoseTrajectory3D(poses_se3=list(T), timestamps=STAMPS / 1e9) for T in (estimate, TRUTH)
    )
    rotation, translation, scale = theirs.align(truth, correct_scale=correct_scale)
    assert ours.aligned_by == "positions" and ours.scale == pytest.approx(scale)
    np.testing.assert_allclose(
        ours.T_truth_estimate[:3], np.column_stack([rotation, translation]), atol=1e-9
    )
