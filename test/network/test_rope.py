"""Rotary positions: rotations, by differences of rows and columns alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.network.rope import rotary_table, rotate

CPU = torch.device("cpu")
HEAD = 16


def table(rows, columns, special=2, base=100.0):
    return rotary_table((rows, columns), special, HEAD, base, CPU, torch.float64)


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), special=st.integers(0, 5))
def test_lengths_are_kept_and_special_tokens_are_not_turned(rows, columns, special):
    tokens = special + rows * columns
    x = torch.randn(2, tokens, 3, HEAD, dtype=torch.float64)
    turned = rotate(x, table(rows, columns, special))
    assert turned.shape == x.shape
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :special], x[:, :special])


@given(
    offset=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    first=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    second=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_products_depend_on_the_difference_of_positions_alone(offset, first, second):
    q, k = torch.randn(2, HEAD, dtype=torch.float64)

    def product(at_q, at_k):
        grid = torch.zeros(1, 36, 1, HEAD, dtype=torch.float64)
        query, key = grid.clone(), grid.clone()
        query[0, at_q[0] * 6 + at_q[1], 0], key[0, at_k[0] * 6 + at_k[1], 0] = q, k
        turned = table(6, 6, special=0)
        return (rotate(query, turned).sum((0, 1, 2)) * rotate(key, turned).sum((0, 1, 2))).sum()

    moved = [(a + offset[0], b + offset[1]) for a, b in (first, second)]
    # the angles are computed in float32
    torch.testing.assert_close(product(first, second), product(*moved), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_half_of_the_head_encodes_one_axis(axis):
    """Two patches of one row agree in the first half, two of one column in the second."""
    x = torch.ones(1, 4, 1, HEAD, dtype=torch.float64)
    turned = rotate(x, table(2, 2, special=0))[0, :, 0]
    same, half = ((0, 1), slice(0, 8)) if axis == 0 else ((0, 2), slice(8, 16))
    other = slice(8, 16) if axis == 0 else slice(0, 8)
    torch.testing.assert_close(turned[same[0], half], turned[same[1], half])
    assert (turned[same[0], other] - turned[same[1], other]).abs().max() > 0.1


def test_the_first_pair_turns_by_one_radian_a_patch():
    x = torch.zeros(1, 3, 1, HEAD, dtype=torch.float64)
    x[..., 0] = 1.0  # paired with the value a quarter of the head further on
    turned = rotate(x, table(3, 1, special=0))[0, :, 0]
    angles = torch.arange(1, 4, dtype=torch.float64)  # positions start at 1
    torch.testing.assert_close(turned[:, 0], angles.cos())
    torch.testing.assert_close(turned[:, 4], angles.sin())
