"""Distilling any (feature, point) pairs into a scene memory."""

import numpy as np
import pytest
import torch
from smooth_pairs import SMALL, smooth_pairs

from vggt3_ros import distil


def error(memory, keys, points):
    return float(np.median(np.linalg.norm(memory.predict(keys)[0] - points, axis=1)))


def clusters(count=4000, places=60, inputs=32, seed=0, look_alikes=0):
    """Keys of so many places, each key near its place's; the last `look_alikes` places look like
    the first.
    """
    fixed, rng = np.random.default_rng(seed), np.random.default_rng([seed, count])
    centres, points = (
        fixed.normal(size=(places, inputs)),
        fixed.uniform((0, 0, 0), (6, 5, 2.5), (places, 3)),
    )
    if look_alikes:
        centres[-look_alikes:] = centres[:look_alikes]
    place = rng.integers(0, places, count)
    keys = centres[place] + 0.3 * rng.normal(size=(count, inputs))
    return (
        keys.astype(np.float32),
        (points[place] + 0.01 * rng.normal(size=(count, 3))).astype(np.float32),
        place,
    )


@pytest.fixture(scope="module")
def closed():
    return distil(*smooth_pairs(), SMALL, slots=300, steps=0)


@pytest.fixture(scope="module")
def distilled():
    return distil(*smooth_pairs(), SMALL, slots=300)


def test_one_call_learns_arbitrary_pairs(closed):
    keys, points = smooth_pairs(1000, seed=0)  # other keys, the same function
    spread = np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1))
    assert error(closed, keys, points) < spread / 7 and closed.steps == 0 and len(closed) <= 300
    keys, points, _ = clusters()
    assert error(distil(keys, points, SMALL, steps=0), *clusters(501)[:2]) < 0.02


def test_the_reported_error_is_that_of_unseen_pairs(closed):
    assert closed.validation_error_m == pytest.approx(error(closed, *smooth_pairs(3000)), rel=0.25)


def test_the_optimizer_betters_the_closed_form_at_equal_size(closed, distilled):
    keys, points = smooth_pairs(1000)
    assert len(distilled) == len(closed) and distilled.steps == 150
    assert error(distilled, keys, points) < 0.95 * error(closed, keys, points)


def test_points_in_coordinates_of_a_country_are_learned_as_well(closed):
    keys, points = smooth_pairs()
    offset = np.array([500_000.0, 4_600_000.0, 0.0])
    memory = distil(keys, points + offset, SMALL, slots=300, steps=20)
    again = distil(keys, points + offset, SMALL, slots=300, initial=memory, steps=20)
    keys, points = smooth_pairs(1000)
    assert max(error(m, keys, points + offset) for m in (memory, again)) < 1.05 * error(
        closed, keys, points
    )


def test_the_same_seed_gives_the_same_memory():
    keys, points = smooth_pairs(500)
    first, again, other = (
        distil(keys, points, SMALL, steps=20, seed=seed).predict(keys[:50])[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_allclose(first, again, atol=1e-4)
    assert np.abs(first - other).max() > 1e-3


def test_it_goes_on_from_a_memory_which_is_not_touched(closed):
    keys, points = smooth_pairs()
    before = closed.predict(keys[:100])[0]
    further = distil(keys, points, SMALL, initial=closed, steps=100)
    assert further.steps == 100 and len(further) == len(closed)
    assert error(further, keys, points) < error(closed, keys, points)
    # the memory that is being served
    np.testing.assert_array_equal(closed.predict(keys[:100])[0], before)


def test_uncertainty_tells_places_from_look_alikes():
    keys, points, place = clusters(look_alikes=20)
    memory = distil(keys, points, SMALL, slots=400, steps=0)
    keys, points, place = clusters(3001, look_alikes=20)
    predicted, uncertainty = memory.predict(keys)
    alike = (place < 20) | (place >= 40)
    assert np.median(uncertainty[alike]) > 10 * np.median(uncertainty[~alike])
    off = np.linalg.norm(predicted - points, axis=1)
    assert 0.4 < np.mean(uncertainty[alike]) / np.mean(off[alike]) < 2.5


def test_important_pairs_are_learned_better():
    keys, points = smooth_pairs()
    favoured = keys[:, 2] > 5
    points = np.where(favoured[:, None], points, points[::-1])  # what the others say is wrong
    memory = distil(keys, points, SMALL, importance=np.where(favoured, 1.0, 1e-3), slots=500)
    told = distil(keys, points, SMALL, slots=500)
    assert error(memory, keys[favoured], points[favoured]) < error(
        told, keys[favoured], points[favoured]
    )


def test_torch_tensors_and_half_precision_will_do():
    keys, points = smooth_pairs(2000)
    memory = distil(torch.from_numpy(keys).half(), torch.from_numpy(points), SMALL, steps=0)
    assert error(memory, keys, points) < 0.3


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
    assert told == sorted(told) and told[0] >= 0 and told[-1] <= 1


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
