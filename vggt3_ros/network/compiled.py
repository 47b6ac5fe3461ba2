"""Optional torch.compile of the blocks. It needs a C++ compiler at run time, and minutes at the
first use of a network.

It fuses the operations between the matrix products, which are memory-bound on a GPU. On a CPU
their share is small.
"""

import torch

from .encoder import Encoder
from .global_blocks import FastWeightBlock
from .vggt3 import Vggt3


def compile_blocks(network: Vggt3) -> Vggt3:
    """Compile the blocks at their first use, for any number of images. Replaces methods of the
    network in place; results do not change.
    """
    trunk = network.aggregator
    encoder_blocks = trunk.patch_embed.blocks if isinstance(trunk.patch_embed, Encoder) else ()
    for block in (*encoder_blocks, *trunk.frame_blocks):
        block.compile(dynamic=True)
    for block in trunk.global_blocks:
        if isinstance(block, FastWeightBlock):  # the softmax block is already one kernel
            # both are called by name, so that compiling the module's forward would not reach them
            block.finish = torch.compile(block.finish, dynamic=True)  # type: ignore[method-assign]
            block.associations = torch.compile(  # type: ignore[method-assign]
                block.associations, dynamic=True
            )
    return network
