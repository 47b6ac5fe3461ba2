"""torch.compile for the blocks: optional; needs a C++ compiler at run time and minutes at the
first use of a network.

It fuses what lies between the matrix products, which on a GPU is bound by memory; on a CPU these
parts are small.
"""

import torch

from .global_blocks import FastWeightBlock
from .vggt3 import Vggt3


def compile_blocks(network: Vggt3) -> Vggt3:
    """Have the blocks compiled at their first use, for any number of images; changes the network's
    methods, not its results.
    """
    trunk = network.aggregator
    for block in (*trunk.patch_embed.blocks, *trunk.frame_blocks):
        block.compile(dynamic=True)
    for block in trunk.global_blocks:
        if isinstance(block, FastWeightBlock):  # softmax over everything is one kernel already
            block.finish = torch.compile(block.finish, dynamic=True)
            block.associations = torch.compile(block.associations, dynamic=True)
    return network
