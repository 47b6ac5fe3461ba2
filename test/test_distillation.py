"""Distilling any (feature, point) pairs into a scene memory."""

import numpy as np
import pytest
import torch

from vggt3_ros import distil
from vggt3_ros.config import MemoryConfig

SMALL = MemoryConfig(width=128, blocks=2, steps=400)


def smooth_pairs(count=6000, inputs=16, seed=0, noise=0.0):
    """A smooth random function of features, in metres: a room of 6 x 5 x 2.5 m far from the origin."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(inputs, 24)) / np.sqrt(inputs), rng.normal(size=(24, 3))
    keys = np.random.default_rng([seed, count]).normal(5, 3, (count, inputs)).astype(np.float32)
    hidden = np.tanh((keys - 5) / 3 @ first)
    points = np.array([40, -20, 1]) + hidden @ second / np.sqrt(24) * (3, 2.5, 1.2)
    return keys, (points + noise * rng.normal(size=points.shape)).astype(np.float32)


def error(memory, keys, points):
    return float(np.median(np.linalg.norm(memory.predict(keys)[0] - points, axis=1)))


@pytest.fixture(scope="module")
def distilled():
    return distil(*smooth_pairs(), SMALL)


def test_one_call_learns_arbitrary_pairs(distilled):
    keys, points = smooth_pairs(1000, seed=0)  # other keys, the same function
    spread = np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1))
    assert error(distilled, keys, points) < spread / 7
    assert distilled.steps == 400


def test_the_reported_error_is_that_of_unseen_pairs(distilled):
    assert distilled.validation_error_m == pytest.approx(error(distilled, *smooth_pairs(3000)), rel=0.25)


def test_more_steps_learn_better():
    few, many = (distil(*smooth_pairs(), SMALL, steps=steps) for steps in (30, 300))
    assert many.validation_error_m < few.validation_error_m / 2


def test_the_same_seed_gives_the_same_memory():
    keys, points = smooth_pairs(500)
    first, again, other = (distil(keys, points, SMALL, steps=20, seed=seed).predict(keys[:50])[0] for seed in (0, 0, 1))
    np.testing.assert_allclose(first, again, atol=1e-4)
    assert np.abs(first - other).max() > 1e-3


def test_a_warm_start_keeps_the_standardisation_and_improves(distilled):
    keys, points = smooth_pairs()
    before = distilled.predict(keys[:100])[0]
    # The later pairs are of one corner of the feature space: standardising by them would move every prediction.
    shown = keys[:, 0] > 6
    warmer = distil(keys[shown], points[shown], SMALL, initial=distilled, steps=200)
    for name in ("key_mean", "key_scale", "centre", "scale"):
        assert torch.equal(getattr(warmer, name), getattr(distilled, name))
    assert error(warmer, keys[shown], points[shown]) < error(distilled, keys[shown], points[shown])
    assert warmer.steps == 600
    np.testing.assert_array_equal(distilled.predict(keys[:100])[0], before)  # the memory that is being served is not touched


def test_a_warm_start_needs_fewer_steps_after_a_small_correction(distilled):
    keys, points = smooth_pairs()
    corrected = points + np.float32([0.3, -0.2, 0.0])
    warm = distil(keys, corrected, SMALL, initial=distilled, steps=80)
    cold = distil(keys, corrected, SMALL, steps=80)
    assert error(warm, keys, corrected) < 0.7 * error(cold, keys, corrected)
    assert error(warm, keys, corrected) < 0.3 * error(distilled, keys, corrected)


def test_uncertainty_tells_sure_keys_from_unsure_ones():
    keys, points = smooth_pairs()
    vague = keys[:, 1] > 5
    points[vague] += np.random.default_rng(3).normal(0, 0.8, (int(vague.sum()), 3)).astype(np.float32)
    memory = distil(keys, points, SMALL)
    predicted, uncertainty = memory.predict(keys)
    assert np.median(uncertainty[vague]) > 3 * np.median(uncertainty[~vague])
    off = np.linalg.norm(predicted - points, axis=1)
    assert 0.5 < np.mean(uncertainty[vague]) / np.mean(off[vague]) < 2


def test_important_pairs_are_learned_better():
    keys, points = smooth_pairs()
    favoured = keys[:, 2] > 5
    points = np.where(favoured[:, None], points, points[::-1])  # what the others say is wrong
    memory = distil(keys, points, SMALL, importance=np.where(favoured, 1.0, 0.0))
    told = distil(keys, points, SMALL)
    assert error(memory, keys[favoured], points[favoured]) < error(told, keys[favoured], points[favoured])


def test_torch_tensors_and_half_precision_will_do():
    keys, points = smooth_pairs(2000)
    memory = distil(torch.from_numpy(keys).half(), torch.from_numpy(points), SMALL, steps=200)
    assert error(memory, keys, points) < 0.5


def test_a_limit_in_seconds_ends_it():
    assert distil(*smooth_pairs(1000), SMALL, steps=10**6, seconds=0.3).steps < 10**4


def test_progress_is_told_and_may_end_it():
    class Enough(Exception):
        pass

    told = []

    def progress(fraction):
        told.append(fraction)
        if fraction > 0.5:
            raise Enough

    with pytest.raises(Enough):
        distil(*smooth_pairs(500), SMALL, steps=100, progress=progress)
    assert told == sorted(told) and 0 <= told[0] and told[-1] <= 1


@pytest.mark.parametrize("count", [0, 1, 63])
def test_too_few_pairs_are_refused(count):
    keys, points = smooth_pairs(64)
    with pytest.raises(ValueError, match="at least 64 pairs"):
        distil(keys[:count], points[:count], SMALL)


def test_64_pairs_are_enough_to_start_and_unequal_lengths_are_refused():
    keys, points = smooth_pairs(64)
    assert np.isfinite(distil(keys, points, SMALL, steps=5).predict(keys)[0]).all()
    with pytest.raises(ValueError, match="64 keys, 60 points"):
        distil(keys, points[:60], SMALL)


def test_a_feature_that_never_changes_and_points_that_all_coincide_give_finite_answers():
    keys, points = smooth_pairs(500)
    keys[:, 3] = 7
    memory = distil(keys, np.tile(points[:1], (500, 1)), SMALL, steps=30)
    predicted, uncertainty = memory.predict(keys)
    assert np.isfinite(predicted).all() and np.isfinite(uncertainty).all()
    assert np.abs(predicted - points[0]).max() < 0.1
