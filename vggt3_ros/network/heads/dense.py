"""Dense head: depth or points with confidence, from four layers of tokens (DPT, arXiv 2103.13413).

It is split to save memory: ``project`` runs as soon as a layer is done and keeps 1/8 to 1/2 of its
channels; ``decode`` needs the four projections of the same images. Images are independent, so
chunking does not change the result.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import typed
from ..config import NetworkConfig
from ..progress import Progress

_HIDDEN = 32  # channels before the last 1x1 convolution
_UV_RATIO = 0.1


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions of relu(x), added to relu(x): the first ReLU of the released unit works
    in place.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the unit's output. Overwrites x."""
        x = x.relu_()
        refined: Tensor = self.conv2(self.conv1(x).relu_()).add_(x)
        return refined


class Fusion(nn.Module):
    """Add a finer level to the coarser path and refine the sum; the deepest level has no coarser
    path.
    """

    def __init__(self, channels: int, deepest: bool):
        super().__init__()
        if not deepest:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, path: Tensor, finer: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Combine path and finer, both [n, channels, h, w]; the result has ``size`` (height,
        width).
        """
        if finer is not None:
            path = self.resConfUnit1(finer).add_(path)
        # A 1x1 convolution commutes with an interpolation whose weights sum to 1; before the
        # upsampling it costs a quarter.
        return _resize(self.out_conv(self.resConfUnit2(path)), size)


class Refinement(nn.Module):
    """The convolutions after the projections, under the names of the released checkpoints."""

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
    """Head with ``outputs`` channels: the value's, then one for the confidence."""

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
        """Project patch tokens [n, rows * columns, channels] of a tapped layer to [n, rows *
        columns, the level's channels].
        """
        convolution = typed(self.projects, nn.Conv2d)[level]
        patches = self.norm(patches.to(self.norm.weight.dtype))
        projected = F.linear(patches, convolution.weight.flatten(1), convolution.bias)
        _add_uv_embedding(projected.unflatten(1, grid), self._aspect(grid))
        return projected

    def decode(
        self, projections: list[Tensor], grid: tuple[int, int], progress: Progress
    ) -> Tensor:
        """Decode four projections [n, rows * columns, channels] to raw outputs [n, outputs, H, W],
        float32.
        """
        levels = []
        for index, (resize, tokens) in enumerate(
            zip(self.resize_layers, projections, strict=True), start=1
        ):
            image = tokens.unflatten(1, grid).permute(0, 3, 1, 2)
            levels.append(self.scratch.get_submodule(f"layer{index}_rn")(resize(image)))
            progress.check()

        path: Tensor | None = None
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

        rows, columns = (side * self.patch_size for side in grid)
        path = _resize(self.scratch.output_conv1(path), (rows, columns))
        progress.check()
        _add_uv_embedding(path.permute(0, 2, 3, 1), self._aspect(grid))
        raw: Tensor = self.scratch.output_conv2(path).float()
        return raw

    @staticmethod
    def _aspect(grid: tuple[int, int]) -> float:
        rows, columns = grid
        return columns / rows


def depth_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Convert raw [n, 2, H, W] to depth [n, H, W] along the optical axis in scene units, and
    confidence [n, H, W] above 1.
    """
    return raw[:, 0].exp(), 1 + raw[:, 1].exp()


def points_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Convert raw [n, 4, H, W] to points [n, H, W, 3] in the world frame in scene units, and
    confidence [n, H, W] above 1.
    """
    values = raw[:, :3].permute(0, 2, 3, 1)
    return values.sign() * values.abs().expm1(), 1 + raw[:, 3].exp()


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _add_uv_embedding(cells: Tensor, aspect: float) -> None:
    """Add a sine-cosine code of the position in the image, scaled by 0.1, to cells [n, rows,
    columns, channels].

    Cell centres span a rectangle of the image's aspect (width / height) whose half diagonal is 1.
    The first half of the channels encodes the column, the second the row; within each, sines then
    cosines of frequencies 100^-(i/n).
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
