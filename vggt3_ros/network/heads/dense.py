"""Dense head: depth or points with confidence, from four layers of tokens (DPT, arXiv 2103.13413).

Split where memory matters: ``project`` takes a layer's tokens as soon as the layer is done and
keeps 1/8 to 1/2 of the channels; ``decode`` needs the four projections of the same images. Every
image is on its own, so any chunking is exact.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import NetworkConfig
from ..progress import Progress

_HIDDEN = 32  # channels before the last 1x1 convolution
_UV_RATIO = 0.1


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions on relu(x), added to relu(x): the released unit's first ReLU works in
    place.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Consumes x: its memory is reused."""
        x = x.relu_()
        return self.conv2(self.conv1(x).relu_()).add_(x)


class Fusion(nn.Module):
    """Add a finer level to the coarser path and refine; the deepest level has nothing to add
    to.
    """

    def __init__(self, channels: int, deepest: bool):
        super().__init__()
        if not deepest:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, path: Tensor, finer: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Both [n, channels, h, w]; the result has ``size``."""
        if finer is not None:
            path = self.resConfUnit1(finer).add_(path)
        # A 1x1 convolution and an interpolation whose weights sum to 1 commute; before upsampling
        # it costs a quarter.
        return _resize(self.out_conv(self.resConfUnit2(path)), size)


class Refinement(nn.Module):
    """The convolutions after the projections."""

    def __init__(self, channels: tuple[int, ...], features: int, outputs: int):
        super().__init__()
        for level, width in enumerate(channels, start=1):
            self.add_module(
                f"layer{level}_rn", nn.Conv2d(width, features, 3, padding=1, bias=False)
            )
            self.add_module(f"refinenet{level}", Fusion(features, deepest=level == len(channels)))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, _HIDDEN, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(_HIDDEN, outputs, 1),
        )


class DenseHead(nn.Module):
    """``outputs`` channels: the value's, then one for the confidence."""

    def __init__(self, config: NetworkConfig, outputs: int):
        super().__init__()
        self.patch_size = config.patch_size
        channels = config.dense_channels
        self.norm = nn.LayerNorm(config.token_dim)
        self.projects = nn.ModuleList(nn.Conv2d(config.token_dim, width, 1) for width in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.scratch = Refinement(channels, config.dense_features, outputs)

    def project(self, level: int, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patch tokens [n, rows * columns, channels] of a tapped layer -> [n, rows * columns,
        level's channels].
        """
        convolution = self.projects[level]
        patches = self.norm(patches.to(self.norm.weight.dtype))
        projected = F.linear(patches, convolution.weight.flatten(1), convolution.bias)
        _add_uv_embedding(projected.unflatten(1, grid), self._aspect(grid))
        return projected

    def decode(
        self, projections: list[Tensor], grid: tuple[int, int], progress: Progress
    ) -> Tensor:
        """Four projections [n, rows * columns, channels] -> raw outputs [n, outputs, H, W],
        float32.
        """
        levels = []
        for index, (resize, tokens) in enumerate(
            zip(self.resize_layers, projections, strict=True), start=1
        ):
            image = tokens.unflatten(1, grid).permute(0, 3, 1, 2)
            levels.append(self.scratch.get_submodule(f"layer{index}_rn")(resize(image)))
            progress.check()

        path = None
        for index in (4, 3, 2, 1):
            fusion = self.scratch.get_submodule(f"refinenet{index}")
            level = levels.pop()
            finer_size = (
                levels[-1].shape[-2:] if levels else [2 * side for side in level.shape[-2:]]
            )
            path = fusion(
                level if path is None else path, None if path is None else level, tuple(finer_size)
            )
            progress.check()

        path = self.scratch.output_conv1(path)
        rows, columns = (side * self.patch_size for side in grid)
        path = _resize(path, (rows, columns))
        progress.check()
        _add_uv_embedding(path.permute(0, 2, 3, 1), self._aspect(grid))
        return self.scratch.output_conv2(path).float()

    @staticmethod
    def _aspect(grid: tuple[int, int]) -> float:
        rows, columns = grid
        return columns / rows


def depth_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw [n, 2, H, W] -> depth [n, H, W] along the optical axis in scene units, confidence [n, H,
    W] above 1.
    """
    return raw[:, 0].exp(), 1 + raw[:, 1].exp()


def points_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw [n, 4, H, W] -> points [n, H, W, 3] in the world frame in scene units, confidence [n, H,
    W] above 1.
    """
    values = raw[:, :3].permute(0, 2, 3, 1)
    return values.sign() * values.abs().expm1(), 1 + raw[:, 3].exp()


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _add_uv_embedding(cells: Tensor, aspect: float) -> None:
    """Add to cells [n, rows, columns, channels] a sine-cosine code of where each lies in the
    image, scaled by 0.1.

    Cell centres run over a rectangle of the image's aspect (width over height) whose half diagonal
    is 1. The first half of the channels codes the column, the second the row; within each, sines
    then cosines of frequencies 100^-(i/n).
    """
    rows, columns, channels = cells.shape[1:]
    diagonal = math.hypot(aspect, 1.0)
    quarter = channels // 4
    omega = 100.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)

    def code(count: int, half_span: float) -> Tensor:
        edge = half_span * (count - 1) / count
        angle = torch.linspace(-edge, edge, count, dtype=torch.float64)[:, None] * omega
        return (torch.cat((angle.sin(), angle.cos()), dim=1) * _UV_RATIO).to(
            cells.device, cells.dtype
        )

    across, down = cells.split(channels // 2, dim=-1)
    across.add_(code(columns, aspect / diagonal))
    down.add_(code(rows, 1.0 / diagonal)[:, None])
