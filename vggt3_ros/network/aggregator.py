"""The trunk: patch encoder, then alternating frame and global blocks. It holds parameters and the
steps of one chunk; map_pass.py holds the loop.
"""

import torch
from torch import Tensor, nn

from .blocks import Block
from .config import GlobalAttention, NetworkConfig
from .encoder import make_encoder
from .global_blocks import FastWeightBlock, SoftmaxBlock
from .layout import TokenLayout
from .progress import Progress
from .rope import rotary_table
from .scratch import Scratch


class Aggregator(nn.Module):
    """Trunk whose parameter names and shapes equal ``aggregator.*`` of the released checkpoints."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.patch_embed = make_encoder(config)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, config.embed_dim))
        self.register_token = nn.Parameter(
            torch.zeros(1, 2, config.num_register_tokens, config.embed_dim)
        )
        self.frame_blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_ratio, normalise_qk=True)
            for _ in range(config.depth)
        )
        global_block = (
            FastWeightBlock if config.attention is GlobalAttention.FAST_WEIGHTS else SoftmaxBlock
        )
        self.global_blocks = nn.ModuleList(global_block(config) for _ in range(config.depth))

    def layout(self, height: int, width: int) -> TokenLayout:
        """Return the token layout of images of this size in pixels.

        Raise ValueError unless both sides are multiples of the patch size.
        """
        config = self.config
        grid = config.patch_grid(height, width)
        token = self.camera_token
        rotary = rotary_table(
            grid,
            config.special_tokens,
            config.head_dim,
            config.rope_base,
            token.device,
            token.dtype,
        )
        return TokenLayout(
            grid, config.special_tokens, rotary, self.patch_embed.patch_positions(grid)
        )

    def embed(
        self,
        images: Tensor,
        world_frame_first: bool,
        layout: TokenLayout,
        scratch: Scratch,
        progress: Progress,
    ) -> Tensor:
        """Embed images [n, 3, H, W] in 0..1 as tokens [n, tokens, channels].

        ``world_frame_first``: images[0] defines the world frame of the map.
        """
        count = images.shape[0]
        patches = self.patch_embed(images, layout.positions, scratch, progress)
        x = scratch.take("stream", count, layout.tokens, patches.shape[-1])
        # [variant, special tokens, channels]
        special = torch.cat((self.camera_token, self.register_token), dim=2)[0]
        x[:, : layout.special_tokens] = special[1]
        if world_frame_first:
            x[0, : layout.special_tokens] = special[0]
        x[:, layout.special_tokens :] = patches
        return x
