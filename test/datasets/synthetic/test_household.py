"""Small things: where they stand or hang, and how much room they take."""

import numpy as np
import pytest

from vggt3_ros.datasets.synthetic import household


def rng(seed=0):
    return np.random.default_rng(seed)


def extent(patches):
    points = np.concatenate([patch.points.reshape(-1, 3) for patch in patches])
    return points.min(axis=0), points.max(axis=0)


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("seed", range(3))
def test_a_thing_stands_in_the_room_that_it_is_given(kind, seed):
    low, high = extent(household.thing(rng(seed), 0.2, 0.24, 0.3, kind))
    assert -0.01 <= low[2] < 0.02 and 0.02 < high[2] <= 0.34
    assert (np.abs([low[:2], high[:2]]) < 0.21).all()


def test_things_on_a_table_keep_to_it_and_differ():
    low, high = extent(household.things_on(rng(), 1.0, 0.5, 6))
    assert -0.65 < low[0] < -0.3 and 0.3 < high[0] < 0.65
    assert low[1] > -0.4 and high[1] < 0.4 and low[2] >= -0.01


@pytest.mark.parametrize("width", [0.1, 0.5, 1.5])
def test_books_fill_their_width_and_no_more(width):
    low, high = extent(household.books(rng(), width, 0.2, 0.25))
    assert low[0] >= -1e-9 and width - 0.06 < high[0] <= width
    assert high[2] <= 0.25 and low[2] == 0 and low[1] >= -0.2 - 1e-9
    assert household.books(rng(), 0.01, 0.2, 0.25) == []


def test_a_row_is_centred_and_holds_only_books_where_that_is_asked():
    low, high = extent(household.row(rng(), 0.9, 0.24, 0.3, fill=1.0))
    assert low[0] >= -0.45 and high[0] <= 0.45 and high[0] - low[0] > 0.7
    books = [household.row(rng(), 0.9, 0.24, 0.3, fill=fill) for fill in (1.0, 0.0)]
    assert len(books[0]) > 2 * len(books[1])


@pytest.mark.parametrize("hung", [household.picture, household.poster])
def test_what_hangs_is_centred_with_its_back_to_the_wall(hung):
    low, high = extent(hung(rng(), 0.6, 0.4))
    np.testing.assert_allclose(
        [low[0], high[0], low[2], high[2]], [-0.3, 0.3, -0.2, 0.2], atol=1e-6
    )
    assert high[1] <= 0 and low[1] > -0.03


def test_a_chosen_picture_is_another_than_the_one_chosen_by_chance():
    shown = [
        household.picture(rng(), 0.6, 0.4, source)[0].texture.astype(int)
        for source in ("coffee.png", "moon.png")
    ]
    assert np.abs(shown[0] - shown[1]).mean() > 10


def test_plants_lamps_and_coats_reach_as_far_as_they_say():
    low, high = extent(household.plant(rng(), 1.1))
    assert low[2] == 0 and 0.7 < high[2] < 1.5 and np.abs([low[:2], high[:2]]).max() < 0.35
    lamp = household.floor_lamp(rng(), 1.6)
    assert extent(lamp)[1][2] == 1.6 and sum(patch.emission > 0 for patch in lamp) == 1
    low, high = extent(household.coats(rng(), 4))
    assert high[2] <= 0.001 and low[2] > -1.1 and high[0] - low[0] < 1.1


def test_drapes_leave_the_opening_free():
    low, high = extent(household.drapes(rng(), 1.4, 2.2, (90, 110, 140)))
    assert low[0] < -0.7 and high[0] > 0.7 and low[2] == pytest.approx(-2.2)
    cloth = [p for p in household.drapes(rng(), 1.4, 2.2, (90, 110, 140)) if len(p.points) == 3]
    assert len(cloth) == 2
    assert all(np.abs(p.points[..., 0]).min() > 0.5 for p in cloth)


def test_magazines_and_carpets_lie_flat():
    low, high = extent(household.magazines(rng(), 1.0, 0.7, 4))
    assert 0 < low[2] < high[2] < 0.02 and (high[:2] < (0.65, 0.55)).all()
    low, high = extent(household.carpet(rng(), 2.0, 1.5))
    np.testing.assert_allclose(high - low, [2.0, 1.5, 0], atol=1e-6)
