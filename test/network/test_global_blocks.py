"""Blocks in which images meet: what is collected of each image, and what is read back."""

import pytest
import torch
import torch.nn.functional as F
from tiny_network import SIZE, one_thread, relative, tiny_network  # noqa: F401

from vggt3_ros.network.progress import Progress
from vggt3_ros.network.rope import rotate
from vggt3_ros.network.scratch import Scratch

CPU = torch.device("cpu")
HEADS, D = 6, 64


def scratch():
    return Scratch(CPU, torch.float32)


def parts(attention):
    """A global block, the layout of its tokens, and a stream of three images."""
    trunk = tiny_network(attention).aggregator
    layout = trunk.layout(*SIZE)
    x = torch.randn(3, layout.tokens, 384, generator=torch.Generator().manual_seed(0))
    return trunk.global_blocks[1], layout, x


def associations(block, layout, x):
    out = torch.empty(*x.shape[:-1], 2 * 384 + 3 * HEADS)
    return block.attn.unpack(block.associations(x.clone(), layout, scratch(), out))


def test_keys_are_unit_vectors_rotated_by_position():
    block, layout, x = parts("ttt")
    found = associations(block, layout, x)
    k = block.attn.qkv(block.norm1(x))[..., 384:768].unflatten(-1, (HEADS, -1))
    expected = F.normalize(rotate(F.silu(k), layout.rotary), dim=-1)
    assert found.keys.shape == (3 * layout.tokens, HEADS, D)
    assert relative(found.keys, expected.flatten(0, 1)) < 1e-3  # a small constant in the norm


def test_rates_are_positive_and_the_base_rate_where_nothing_was_learned():
    block, layout, x = parts("ttt")
    assert (associations(block, layout, x).rates > 0).all()
    rate = F.softplus(torch.tensor(block.attn.rate_offset, dtype=torch.float64))
    assert float(rate) == pytest.approx(0.01, rel=1e-9)


def test_values_are_mixed_with_those_of_neighbouring_patches_only():
    """A change in one patch reaches the values of the 3x3 patches around it; special tokens keep
    to themselves.
    """
    block, layout, x = parts("ttt")
    before = associations(block, layout, x)
    changed = x.clone()
    changed[1, layout.special_tokens + 1 * 4 + 3] *= torch.linspace(-1, 2, 384)  # row 1, column 3
    changed[2, 0] *= torch.linspace(-1, 2, 384)
    after = associations(block, layout, changed)
    moved = (after.values - before.values).abs().amax((1, 2)).view(3, layout.tokens) > 1e-6
    assert not moved[0].any() and moved[2].nonzero().tolist() == [[0]]
    grid = moved[1, layout.special_tokens :].view(3, 4)
    assert not moved[1, : layout.special_tokens].any()
    assert grid.tolist() == [[False, False, True, True]] * 3
    keys = (after.keys - before.keys).abs().amax((1, 2)).view(3, layout.tokens) > 1e-6
    assert keys[1].sum() == 1  # keys are not mixed


def test_an_empty_scene_has_the_stored_weights():
    block, *_ = parts("ttt")
    weights = block.attn.initial_weights()
    assert weights.shape == (3, HEADS, D, 4 * D) and weights.dtype == torch.float32
    assert torch.equal(weights[1].transpose(-1, -2), block.attn.w1)


def test_what_a_block_reads_depends_on_the_scene_and_works_in_place():
    block, layout, x = parts("ttt")
    weights = block.attn.initial_weights()
    streams = [x.clone(), x.clone()]
    results = [
        block.finish(stream, w, layout, scratch())
        for stream, w in zip(streams, (weights, 0 * weights), strict=True)
    ]
    assert all(result is stream for result, stream in zip(results, streams, strict=True))
    assert relative(*streams) > 1e-3


@pytest.mark.parametrize("queries_at_once", [5, 17, 1000])
def test_softmax_over_all_images_equals_one_sequence_of_all_tokens(queries_at_once):
    block, layout, x = parts("softmax")
    kept = torch.empty(3, layout.tokens, 2, HEADS, D)
    block.keys_values(x, layout, scratch(), kept)
    keys, values = kept.flatten(0, 1).unsqueeze(0).unbind(2)
    checks = []
    progress = Progress(cancelled=lambda: checks.append(1) and False)
    stream = x.clone()
    block.finish(stream, keys, values, queries_at_once, layout, scratch(), progress)

    q, k, v = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, HEADS, -1)).unbind(-3)
    q, k = (
        rotate(norm(part), layout.rotary)
        for norm, part in ((block.attn.q_norm, q), (block.attn.k_norm, k))
    )
    attended = F.scaled_dot_product_attention(
        *(part.flatten(0, 1).transpose(0, 1)[None] for part in (q, k, v))
    )
    update = block.attn.proj(attended[0].transpose(0, 1).reshape(x.shape))
    assert relative(stream, block.add_update(x.clone(), update, scratch())) < 1e-5
    assert len(checks) == -(-3 * layout.tokens // queries_at_once)
