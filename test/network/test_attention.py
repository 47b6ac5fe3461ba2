"""Attention in tiles is attention, for any shape and layout."""

import pytest
import torch
from tiny_network import one_thread, relative  # noqa: F401

from vggt3_ros.network import attention
from vggt3_ros.network.linear import has_onednn

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float64: 1e-14}


def by_definition(q, k, v):
    q, k, v = (part.double().transpose(1, 2) for part in (q, k, v))
    return ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "sequences, queries, keys, heads, d",
    [(3, 40, 40, 6, 24), (1, 140, 300, 2, 16), (2, 131, 131, 3, 64), (1, 1, 7, 4, 32)],
)
def test_agrees_with_the_definition(dtype, sequences, queries, keys, heads, d):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(sequences, queries, heads, d, generator=generator).to(dtype)
    # strided, as in a pass
    k, v = torch.randn(sequences, keys, 2, heads, d, generator=generator).to(dtype).unbind(2)
    expected = by_definition(q, k, v)
    ours = attention.attend(q, k, v)
    assert ours.dtype == dtype and ours.shape == q.shape
    assert relative(ours, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tile", [131 * 7, 131 * 131, 131 * 131 * 2])
def test_the_size_of_the_tiles_does_not_matter(dtype, tile, monkeypatch):
    if not has_onednn("cpu", dtype):
        pytest.skip("torch has no oneDNN products on this CPU")
    q, k, v = (
        torch.randn(3, 2, 131, 3, 32, generator=torch.Generator().manual_seed(1)).mul(3).to(dtype)
    )
    whole = attention.attend(q, k, v)
    monkeypatch.setattr(attention, "_TILE", tile)
    monkeypatch.setattr(attention, "_LEAST_ROWS", 1)
    assert relative(attention.attend(q, k, v), whole) < TOLERANCE[dtype]


def test_large_scores_do_not_overflow():
    q = torch.full((1, 200, 1, 16), 60.0, dtype=torch.bfloat16)
    v = torch.randn(1, 200, 1, 16, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    assert torch.isfinite(attention.attend(q, q, v)).all()
