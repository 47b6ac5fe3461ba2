"""The trunk: layout of tokens, and how images become tokens."""

import pytest
import torch
from tiny_network import SIZE, one_thread, random_images, relative, tiny_network  # noqa: F401

from vggt3_ros.network.global_blocks import FastWeightBlock, SoftmaxBlock
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.scratch import Scratch


def embed(trunk, images, world_frame_first):
    layout = trunk.layout(*SIZE)
    scratch = Scratch(torch.device("cpu"), torch.float32)
    return trunk.embed(images, world_frame_first, layout, scratch, Progress()).clone()


def test_a_layout_counts_special_tokens_and_patches():
    layout = tiny_network().aggregator.layout(*SIZE)
    assert layout.grid == (3, 4) and layout.special_tokens == 5 and layout.tokens == 17
    assert layout.rotary.cos.shape == (17, 1, 64) and layout.positions.shape == (1, 12, 384)


@pytest.mark.parametrize("size", [(42, 57), (0, 56), (41, 56)])
def test_sides_are_multiples_of_the_patch(size):
    with pytest.raises(ValueError, match="multiples of 14"):
        tiny_network().aggregator.layout(*size)


def test_the_world_frame_s_image_has_special_tokens_of_its_own():
    trunk, images = tiny_network().aggregator, random_images(3)
    with_world, without = embed(trunk, images, True), embed(trunk, images, False)
    assert relative(with_world[1:], without[1:]) == 0
    assert torch.equal(with_world[0, 5:], without[0, 5:])
    assert torch.equal(with_world[0, 0], trunk.camera_token[0, 0, 0])
    assert torch.equal(with_world[0, 1:5], trunk.register_token[0, 0])
    assert torch.equal(without[0, 1:5], trunk.register_token[0, 1])


@pytest.mark.parametrize("attention, kind", [("ttt", FastWeightBlock), ("softmax", SoftmaxBlock)])
def test_the_attention_decides_the_global_blocks(attention, kind):
    trunk = tiny_network(attention).aggregator
    assert len(trunk.global_blocks) == len(trunk.frame_blocks) == 3
    assert all(isinstance(block, kind) for block in trunk.global_blocks)
