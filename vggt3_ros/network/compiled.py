"""torch.compile for the blocks: optional, needs a compiler at run time, and pays off on a GPU."""

import torch

from .global_blocks import FastWeightBlock
from .vggt3 import Vggt3


def compile_blocks(network: Vggt3) -> Vggt3:
    """Have the blocks compiled at their first use, for any number of images; changes the network's methods, not its results."""
    trunk = network.aggregator
    for block in (*trunk.patch_embed.blocks, *trunk.frame_blocks):
        block.compile(dynamic=True)
    for block in trunk.global_blocks:
        block.finish = torch.compile(block.finish, dynamic=True)
        if isinstance(block, FastWeightBlock):
            block.associations = torch.compile(block.associations, dynamic=True)
    return network
