"""Patch encoders: DINOv2 with register tokens (arXiv 2304.07193, 2309.16588), or one linear map of
the pixels of each patch.

Both take images in 0..1 and normalise them by ImageNet's mean and standard deviation. Both process
each image independently, so chunking does not change the result.
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
    """One linear map from the pixels of a patch to a token, stored as a convolution with stride =
    patch size.
    """

    def __init__(self, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [n, 3, H, W] to tokens [n, rows * columns, dim]."""
        return _projected(self.proj, images)


class ConvolutionEncoder(nn.Module):
    """Patch encoder without a transformer: VGGT's ``patch_embed: conv``. It has no position
    embedding and no final norm.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(3, config.embed_dim, size, stride=size)

    def patch_positions(self, grid: tuple[int, int]) -> Tensor:
        """Return an empty embedding [1, 0, dim]: positions enter through the trunk's rotary
        embedding only.
        """
        return self.proj.weight.new_zeros(1, 0, self.proj.out_channels)

    def forward(
        self, images: Tensor, positions: Tensor, scratch: Scratch, progress: Progress
    ) -> Tensor:
        """Do as Encoder.forward; ``positions`` is ignored."""
        return _projected(self.proj, _standardised(images))


class Encoder(nn.Module):
    """Vision transformer from images to patch tokens."""

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
        """Return the position embedding of the patches [1, rows * columns, dim], resized from the
        native grid (bicubic, antialiased).
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
        """Map images [n, 3, H, W] in 0..1 to patch tokens [n, rows * columns, dim].

        ``positions``: ``patch_positions`` of their grid.
        """
        count = images.shape[0]
        patches: Tensor = self.patch_embed(_standardised(images))
        registers = self.register_tokens.shape[1]
        x = scratch.take("encoder", count, 1 + registers + patches.shape[1], patches.shape[2])
        x[:, :1] = self.cls_token + self.pos_embed[:, :1]
        x[:, 1 : 1 + registers] = self.register_tokens
        torch.add(patches, positions, out=x[:, 1 + registers :])
        for block in self.blocks:
            block(x, None, scratch)
            progress.advance(count, "encoder")
        normed: Tensor = self.norm(x[:, 1 + registers :])
        return normed


def make_encoder(config: NetworkConfig) -> Encoder | ConvolutionEncoder:
    """Return the encoder that the configuration names."""
    return (ConvolutionEncoder if config.encoder == CONVOLUTION else Encoder)(config)


def _projected(projection: nn.Conv2d, images: Tensor) -> Tensor:
    tokens: Tensor = projection(images).flatten(2).transpose(1, 2)
    return tokens


def _standardised(images: Tensor) -> Tensor:
    """Normalise images [n, 3, H, W] by ImageNet's mean and standard deviation. Works channel by
    channel, so that no constant tensor has to be copied to the device.
    """
    out = torch.empty_like(images)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        torch.sub(images[:, channel], mean, out=out[:, channel]).div_(std)
    return out
