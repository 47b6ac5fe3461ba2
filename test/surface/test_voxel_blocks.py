"""Blocks of a TSDF as arrays: found, copied, erased, numbered."""

import numpy as np
import pytest

from vggt3_ros.surface.voxel_blocks import (
    block_codes,
    erase,
    excerpt,
    held_blocks,
    make_room,
    new_grid,
    places,
    tensor,
    values,
)

VOXEL = 0.05


def blocks_of(*rows):
    return np.array(rows, np.int32).reshape(-1, 3)


@pytest.fixture
def grid():
    """Four blocks, whose weights say which they are."""
    grid = new_grid(VOXEL, 8)
    blocks = blocks_of((0, 0, 0), (1, 0, 0), (0, -2, 5), (7, 7, 7))
    grid.hashmap().activate(tensor(blocks))
    at, found = places(grid, blocks)
    assert found.all()
    for name in ("tsdf", "weight", "color"):
        values(grid, name)[:] = 0
    values(grid, "weight")[at] = np.arange(1, 5)[:, None, None, None, None]
    return grid


def test_blocks_are_found_where_they_are_kept_and_others_are_not(grid):
    asked = blocks_of((0, -2, 5), (3, 3, 3), (1, 0, 0))
    at, found = places(grid, asked)
    assert found.tolist() == [True, False, True]
    assert values(grid, "weight")[at[found], 0, 0, 0, 0].tolist() == [3, 2]
    assert set(map(tuple, held_blocks(grid).tolist())) == {
        (0, 0, 0),
        (1, 0, 0),
        (0, -2, 5),
        (7, 7, 7),
    }
    at, found = places(grid, blocks_of())
    assert len(at) == len(found) == 0


def test_what_is_written_to_values_is_in_the_grid(grid):
    at, _ = places(grid, blocks_of((7, 7, 7)))
    values(grid, "color")[at[0], 1, 2, 3] = (0.1, 0.2, 0.3)
    read = grid.attribute("color").numpy()[at[0], 1, 2, 3]
    np.testing.assert_allclose(read, (0.1, 0.2, 0.3), atol=1e-6)


def test_an_excerpt_is_a_copy_of_the_blocks_that_there_are(grid):
    part = excerpt(grid, blocks_of((1, 0, 0), (9, 9, 9), (0, -2, 5)), VOXEL)
    assert len(held_blocks(part)) == 2
    at, _ = places(part, blocks_of((0, -2, 5), (1, 0, 0)))
    assert values(part, "weight")[at, 4, 4, 4, 0].tolist() == [3, 2]
    values(part, "weight")[at] = 50
    assert values(grid, "weight").max() == 4
    assert excerpt(grid, blocks_of((9, 9, 9)), VOXEL) is None


def test_erased_blocks_are_gone_and_the_others_stay(grid):
    gone = blocks_of((0, 0, 0), (7, 7, 7))
    at, _ = places(grid, gone)
    values(grid, "weight")[at] = 0
    erase(grid, gone)
    assert not places(grid, gone)[1].any() and len(held_blocks(grid)) == 2
    erase(grid, blocks_of())
    at, found = places(grid, blocks_of((1, 0, 0), (0, -2, 5)))
    assert found.all() and values(grid, "weight")[at, 0, 0, 0, 0].tolist() == [2, 3]


def test_room_is_made_for_new_blocks_alone_and_nothing_is_lost(grid):
    assert not make_room(grid, held_blocks(grid))
    more = np.stack([np.arange(20, 60), np.zeros(40), np.zeros(40)], axis=1).astype(np.int32)
    before = grid.hashmap().capacity()
    assert make_room(grid, more)
    assert grid.hashmap().capacity() >= before + 30 and not make_room(grid, more)
    at, found = places(grid, blocks_of((0, 0, 0), (1, 0, 0), (0, -2, 5), (7, 7, 7)))
    assert found.all() and values(grid, "weight")[at, 0, 0, 0, 0].tolist() == [1, 2, 3, 4]


def test_every_block_has_a_code_of_its_own_on_both_sides_of_the_origin():
    rng = np.random.default_rng(0)
    blocks = np.unique(
        np.concatenate(
            [
                rng.integers(-(2**20), 2**20, (5000, 3)),
                np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3),
            ]
        ),
        axis=0,
    )
    codes = block_codes(blocks.astype(np.int32))
    assert codes.dtype == np.int64 and len(np.unique(codes)) == len(blocks) and (codes >= 0).all()
