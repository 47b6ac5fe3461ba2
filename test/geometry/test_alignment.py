"""Robust Sim(3): exact without noise, right with outliers, refused where the motion does not
determine it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from stand_in_network import corridor, room_tour, stand_in

from vggt3_ros.datasets.drift import drifting_odometry
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.alignment import DegenerateMotion, align, segment_scales


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_a_similarity_is_recovered_exactly_without_noise(scale, seed):
    truth = room_tour()
    network, _, _ = stand_in(truth, scale, seed, 0, 0, 0, 0)
    found = align(truth, network)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
    np.testing.assert_allclose(found.poses(network), truth, atol=1e-5)


@pytest.mark.parametrize("tour", [room_tour, corridor])
@pytest.mark.parametrize("seed", range(5))
def test_scale_is_within_one_percent_with_a_fifth_of_outliers(tour, seed):
    truth = tour()
    network, confidence, wrong = stand_in(truth, scale=0.37, seed=seed)
    found = align(truth, network, confidence)
    assert abs(found.scale / 0.37 - 1) < 0.01
    assert not (found.trusted & wrong).any()
    assert found.trusted[~wrong].mean() > 0.9
    error = np.linalg.norm(found.poses(network)[~wrong, :3, 3] - truth[~wrong, :3, 3], axis=1)
    assert np.median(error) < 0.08


def test_confidence_decides_between_two_halves():
    truth = room_tour()
    network, _, _ = stand_in(truth, 2.0, 0, 0, 0, 0, 0)
    network[::2, :3, 3] += 5.0
    sure = np.where(np.arange(len(truth)) % 2, 1.0, 0.0)
    assert align(truth, network, sure).scale == pytest.approx(2.0, rel=1e-6)


def test_a_straight_line_keeps_its_roll():
    """Positions on a line leave the turn about it open; the orientations do not."""
    truth = corridor()
    network, _, _ = stand_in(truth, 3.0, 1, 0.01, 0.005, 0, 0)
    aligned = align(truth, network).poses(network)
    assert np.median(se3.rotation_angle(se3.inverse(aligned) @ truth)) < 0.02


def test_turning_on_the_spot_is_refused():
    turns = Rotation.from_euler("z", np.linspace(0, 6, 50)[:, None]).as_matrix()
    truth = se3.from_rotation_translation(turns, np.zeros((50, 3)))
    network, _, _ = stand_in(
        truth @ se3.exp(np.random.default_rng(0).standard_normal((50, 6)) * 1e-3), 1.0, 2
    )
    with pytest.raises(DegenerateMotion, match="does not determine the scale"):
        align(truth, network)


def test_unrelated_poses_are_refused():
    truth = room_tour()
    network = se3.from_rotation_translation(
        Rotation.random(len(truth), rng=3).as_matrix(),
        np.random.default_rng(4).standard_normal((len(truth), 3)),
    )
    with pytest.raises(DegenerateMotion, match="share no rotation"):
        align(truth, network)


def test_different_paths_are_refused_although_their_rotations_agree():
    truth = room_tour()
    network = truth.copy()
    network[:, :3, 3] = np.random.default_rng(5).standard_normal((len(truth), 3))
    with pytest.raises(DegenerateMotion, match="scale"):
        align(truth, network)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_poses_are_refused(count):
    with pytest.raises(DegenerateMotion, match=f"got {count}"):
        align(room_tour()[:count], room_tour()[:count])


def test_poses_that_are_not_numbers_are_left_out():
    truth = room_tour()
    network, _, _ = stand_in(truth, 0.5, 0, 0, 0, 0, 0)
    network[7] = np.nan
    found = align(truth, network)
    assert found.scale == pytest.approx(0.5, rel=1e-6) and not found.trusted[7]


def test_segment_scales_show_a_scale_that_drifts():
    truth = room_tour(200)
    network, _, _ = stand_in(truth, 1.0, 0, 0.005, 0.002, 0, 0.1)
    steady = segment_scales(align(truth, network), truth, network)
    assert np.nanmax(np.abs(steady - 1)) < 0.05
    stretch = np.linspace(1.0, 1.3, len(truth))
    steps = np.diff(truth[:, :3, 3], axis=0) * stretch[1:, None]
    drifting = truth.copy()
    drifting[1:, :3, 3] = truth[0, :3, 3] + np.cumsum(steps, axis=0)
    ratios = segment_scales(align(truth, drifting), truth, drifting)
    assert (np.diff(ratios) < 0.01).all() and ratios[0] - ratios[-1] > 0.15


@pytest.mark.parametrize("seed", range(3))
def test_odometry_that_drifts_still_gives_the_scale(seed):
    truth = room_tour()
    odometry, _ = drifting_odometry(truth, seed, ate=0.15)
    network, confidence, _ = stand_in(truth, 0.37, seed, 0.02, 0.01, 0.03, 0.2)
    assert abs(align(odometry, network, confidence).scale / 0.37 - 1) < 0.05
