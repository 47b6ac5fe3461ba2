"""Sweeps are kept while their neighbourhood stays, within bounded memory, over restarts; small
moves add up.
"""

from dataclasses import replace

import numpy as np
import pytest
from random_keyframes import make_keyframe

from vggt3_ros.geometry import se3
from vggt3_ros.refinement.monocular.plane_sweep import InverseDepth
from vggt3_ros.refinement.monocular.sweeps import MOVED, NAME, Neighbourhood, Sweeps
from vggt3_ros.store.keyframes import KeyframeStore

AROUND = Neighbourhood(
    (1, 2), se3.exp(np.array([[0.2, 0, 0, 0, 0.05, 0], [0, -0.1, 0.1, 0.1, 0, 0]])), 0.5, 6.0
)


def swept(seed=0):
    rng = np.random.default_rng(seed)
    return InverseDepth(
        rng.uniform(1 / 6, 2, (48, 64)).astype(np.float32),
        rng.uniform(-1, 1, (48, 64)).astype(np.float32),
        0.01,
    )


def moved(neighbourhood, share, scale=1.0):
    """The first neighbour moved sideways by a share of its baseline, everything `scale` times as
    large.
    """
    motions = neighbourhood.motions.copy()
    motions[0, 2, 3] += share * 0.2
    motions[:, :3, 3] *= scale
    return replace(neighbourhood, motions=motions)


@pytest.fixture
def sweeps(tmp_path):
    with KeyframeStore(tmp_path) as store:
        for i in range(3):
            store.put(make_keyframe(i))
        yield Sweeps(store, "a", 2**20)


def test_small_moves_of_a_neighbour_add_up(sweeps):
    """Each refinement moves it by half of what is allowed: the second may, the fifth at the latest
    may not.
    """
    sweeps.put(0, AROUND, swept())
    scales = [sweeps.scale(0, moved(AROUND, 0.5 * MOVED * k)) for k in range(6)]
    assert (
        scales[0] == pytest.approx(1)
        and scales[1] is not None
        and scales[4] is None
        and scales[5] is None
    )


def test_what_only_grows_stays_and_grows(sweeps):
    sweeps.put(0, AROUND, swept())
    for k in range(1, 30):
        assert sweeps.scale(0, moved(AROUND, 0, 1.03**k)) == pytest.approx(1.03**k)
    grown = sweeps.get(0, 1.5)
    np.testing.assert_allclose(grown.inverse, swept().inverse / 1.5, atol=2e-5)
    assert grown.step == pytest.approx(0.01 / 1.5)


@pytest.mark.parametrize(
    "other",
    [
        replace(AROUND, ids=(2, 1)),
        moved(AROUND, 2 * MOVED),
        replace(AROUND, motions=AROUND.motions @ se3.exp([0, 0, 0, 0, 0, 0.01])),
    ],
)
def test_another_neighbourhood_is_another_sweep(sweeps, other):
    assert sweeps.scale(0, AROUND) is None
    sweeps.put(0, AROUND, swept())
    assert sweeps.scale(0, other) is None and sweeps.scale(1, AROUND) is None


def test_it_is_there_after_a_restart_and_made_again_where_it_is_damaged(sweeps):
    sweeps.put(0, AROUND, swept())
    again = Sweeps(sweeps._store, "a", 2**20)
    assert again.scale(0, AROUND) == pytest.approx(1)
    np.testing.assert_allclose(again.get(0).inverse, swept().inverse, atol=2e-5)
    np.testing.assert_allclose(again.get(0).similarity, swept().similarity, atol=0.005)
    assert Sweeps(sweeps._store, "of other features", 2**20).scale(0, AROUND) is None
    for blob in (b"", b"nonsense", sweeps._store.get_cache(0, NAME, "1/a")[:-9]):
        sweeps._store.put_cache(0, NAME, "1/a", blob)
        assert Sweeps(sweeps._store, "a", 2**20).scale(0, AROUND) is None


def test_memory_is_bounded_and_nothing_is_lost(tmp_path):
    with KeyframeStore(tmp_path) as store:
        limit = 200_000  # about twenty of them
        sweeps = Sweeps(store, "a", limit)
        for i in range(120):
            store.put(make_keyframe(i))
            sweeps.put(i, AROUND, swept(i))
            assert sweeps.nbytes <= limit
        for i in range(0, 120, 7):
            assert sweeps.scale(i, AROUND) == pytest.approx(1)
            np.testing.assert_allclose(sweeps.get(i).inverse, swept(i).inverse, atol=2e-5)
            assert 0 < sweeps.nbytes <= limit
