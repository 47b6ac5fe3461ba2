"""Patch encoders: DINOv2 with register tokens (arXiv 2304.07193, 2309.16588), or the patches'
pixels through one linear map.

Both take images in 0..1 and apply ImageNet's mean and deviation; both see one image at a time, so
any chunking is exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Block
from .config import CONVOLUTION, NetworkConfig
from .progress import Progress
from .scratch import Scratch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PatchProjection(nn.Module):
    """One linear map from the pixels of a patch to a token, stored as a convolution whose stride
    is the patch.
    """

    def __init__(self, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, H, W] -> tokens [n, rows * columns, dim]."""
        return self.proj(images).flatten(2).transpose(1, 2)


class ConvolutionEncoder(PatchProjection):
    """Images to patch tokens without a transformer: VGGT's ``patch_embed: conv``. No position
    embedding, no norm.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__(config.embed_dim, config.patch_size)

    def patch_positions(self, grid: tuple[int, int]) -> Tensor:
        """Nothing is added to the patches [1, 0, dim]: their place is told by the rotary positions
        of the trunk.
        """
        return self.proj.weight.new_zeros(1, 0, self.proj.out_channels)

    def forward(
        self, images: Tensor, positions: Tensor, scratch: Scratch, progress: Progress
    ) -> Tensor:
        """As Encoder.forward; ``positions`` are of no use."""
        return super().forward(_standardised(images))


class Encoder(nn.Module):
    """Images to patch tokens by a vision transformer."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        shape = config.encoder_shape
        self.native_grid = config.native_grid
        self.patch_embed = PatchProjection(shape.embed_dim, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.embed_dim))
        self.register_tokens = nn.Parameter(
            torch.zeros(1, config.num_register_tokens, shape.embed_dim)
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.native_grid**2, shape.embed_dim))
        self.blocks = nn.ModuleList(
            Block(shape.embed_dim, shape.num_heads, 4.0, norm_eps=1e-6) for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.embed_dim, eps=1e-6)

    def patch_positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding of the patches [1, rows * columns, dim], resized from the native grid
        (bicubic, antialiased).
        """
        stored = self.pos_embed[:, 1:]
        if grid == (self.native_grid, self.native_grid):
            return stored
        image = (
            stored.float().unflatten(1, (self.native_grid, self.native_grid)).permute(0, 3, 1, 2)
        )
        resized = F.interpolate(image, size=grid, mode="bicubic", antialias=True)
        return resized.flatten(2).transpose(1, 2).to(stored.dtype)

    def forward(
        self, images: Tensor, positions: Tensor, scratch: Scratch, progress: Progress
    ) -> Tensor:
        """Images [n, 3, H, W] in 0..1 and ``patch_positions`` of their grid -> patch tokens [n,
        rows * columns, dim].
        """
        count = images.shape[0]
        patches = self.patch_embed(_standardised(images))
        registers = self.register_tokens.shape[1]
        x = scratch.take("encoder", count, 1 + registers + patches.shape[1], patches.shape[2])
        x[:, :1] = self.cls_token + self.pos_embed[:, :1]
        x[:, 1 : 1 + registers] = self.register_tokens
        torch.add(patches, positions, out=x[:, 1 + registers :])
        for block in self.blocks:
            block(x, None, scratch)
            progress.advance(count, "encoder")
        return self.norm(x[:, 1 + registers :])


def make_encoder(config: NetworkConfig) -> Encoder | ConvolutionEncoder:
    """The one that the configuration names."""
    return (ConvolutionEncoder if config.encoder == CONVOLUTION else Encoder)(config)


def _standardised(images: Tensor) -> Tensor:
    """Images [n, 3, H, W] by ImageNet's mean and deviation; channel by channel, so that no
    constant travels to the device.
    """
    out = torch.empty_like(images)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        torch.sub(images[:, channel], mean, out=out[:, channel]).div_(std)
    return out
