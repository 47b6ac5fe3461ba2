"""Transformer blocks: the arithmetic by definition, in place, and independent of other images."""

import pytest
import torch
import torch.nn.functional as F
from tiny_network import one_thread, relative  # noqa: F401
from torch import nn

from vggt3_ros.network.blocks import Attention, Block, LayerScale, Mlp, typed
from vggt3_ros.network.rope import rotary_table, rotate
from vggt3_ros.network.scratch import Scratch

CPU = torch.device("cpu")
DIM, HEADS = 32, 4


def random(module):
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module.requires_grad_(False)


def stream(images=3, tokens=8):
    return torch.randn(images, tokens, DIM, generator=torch.Generator().manual_seed(5))


def scratch():
    return Scratch(CPU, torch.float32)


def by_definition(block, x, table):
    """x + g1 attention(norm(x)), then + g2 mlp(norm(x)), with torch's own modules."""
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(x)).unflatten(-1, (3, HEADS, -1)).unbind(-3)
    if attention.normalise_qk:
        q, k = attention.q_norm(q), attention.k_norm(k)
    if table is not None:
        q, k = rotate(q, table), rotate(k, table)
    attended = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    x = x + block.ls1.gamma * attention.proj(attended.transpose(1, 2).flatten(-2))
    return x + block.ls2.gamma * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


@pytest.mark.parametrize("normalise_qk", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_block_is_its_definition_and_works_in_place(normalise_qk, rotated):
    block = random(Block(DIM, HEADS, 2.0, normalise_qk=normalise_qk))
    table = rotary_table((2, 3), 2, DIM // HEADS, 100.0, CPU, torch.float32) if rotated else None
    x = stream()
    expected = by_definition(block, x, table)
    result = block(x, table, scratch())
    assert result is x and relative(x, expected) < 1e-5


def test_a_sequence_does_not_see_another():
    block = random(Block(DIM, HEADS, 2.0))
    together, alone = stream(), stream()[1:2]
    block(together, None, scratch())
    block(alone, None, scratch())
    assert relative(together[1:2], alone) < 1e-5


def test_values_of_an_attention_are_not_rotated():
    attention = random(Attention(DIM, HEADS, normalise_qk=True))
    table = rotary_table((2, 3), 2, DIM // HEADS, 100.0, CPU, torch.float32)
    plain = [part.clone() for part in attention.queries_keys_values(stream(), None, scratch())]
    turned = attention.queries_keys_values(stream(), table, scratch())
    assert relative(turned[2], plain[2]) < 1e-6
    assert all(relative(turned[part], plain[part]) > 0.1 for part in (0, 1))


def test_a_scale_of_zero_leaves_the_stream():
    scale, x = LayerScale(DIM).requires_grad_(False), stream()
    scale.gamma.zero_()
    scale.add_to(x, torch.ones_like(x))
    assert torch.equal(x, stream())
    norm = nn.LayerNorm(DIM).requires_grad_(False)
    assert relative(scale.add_then_norm(x, torch.ones_like(x), norm, scratch()), norm(x)) < 1e-6


def test_an_mlp_may_have_another_output_width():
    mlp = random(Mlp(DIM, 2 * DIM, 9))
    expected = mlp.fc2(F.gelu(mlp.fc1(stream())))
    assert relative(mlp(stream(), scratch()), expected) < 1e-5


def test_a_list_of_modules_has_one_type():
    modules = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 2)])
    assert typed(modules, nn.Linear) == list(modules)
    with pytest.raises(TypeError, match="type Linear"):
        typed(nn.ModuleList([nn.Linear(1, 1), nn.Identity()]), nn.Linear)
