"""Floating-point operations of the network from its configuration (a multiply-add counts as two).

Counts matrix products, convolutions and attention, as the published figure of 2.30 TFLOP per image
at 518x392 does. Nothing is counted that an implementation could omit.
"""

from dataclasses import dataclass

from .config import GlobalAttention, NetworkConfig


@dataclass(frozen=True)
class MapFlops:
    """Operations of a whole map(), without the dense heads."""

    encoder: float
    frame_blocks: float
    global_blocks: float
    camera_head: float

    @property
    def total(self) -> float:
        return self.encoder + self.frame_blocks + self.global_blocks + self.camera_head


def map_flops(
    config: NetworkConfig, images: int, height: int, width: int, inner_steps: int | None = None
) -> MapFlops:
    """Return the operations of mapping ``images`` images of this size in pixels, without the dense
    heads.
    """
    rows, columns = config.patch_grid(height, width)
    patches = rows * columns
    tokens = config.tokens_per_image(height, width)
    dim, shape = config.embed_dim, config.encoder_shape
    steps = config.steps_for(images) if inner_steps is None else inner_steps

    encoder_tokens = patches + 1 + config.num_register_tokens
    encoder: float = 2 * patches * 3 * config.patch_size**2 * dim
    encoder += shape.depth * (_linear(encoder_tokens, dim, 4.0) + 4 * encoder_tokens**2 * dim)
    frame = config.depth * (_linear(tokens, dim, config.mlp_ratio) + 4 * tokens**2 * dim)
    mixing: float = 4 * (images * tokens) ** 2 * dim
    if config.attention is GlobalAttention.FAST_WEIGHTS:
        # all tokens and heads times one of the three matrices
        product = 2 * tokens * dim * config.fast_hidden
        extra = 2 * tokens * dim * 3 * config.num_heads + 2 * patches * 9 * dim
        mixing = images * (product * (6 * steps + 3) + extra) + steps * _newton_schulz(config)
    together = config.depth * (images * _linear(tokens, dim, config.mlp_ratio) + mixing)
    camera = config.camera_iterations * camera_iteration_flops(config, images)
    return MapFlops(images * encoder, images * frame, together, camera)


def camera_iteration_flops(config: NetworkConfig, images: int) -> float:
    """Return the operations of one iteration of the camera head over ``images`` camera tokens."""
    dim = config.token_dim
    blocks = config.camera_depth * (_linear(images, dim, 4.0) + 4 * images**2 * dim)
    return blocks + 2 * images * dim * (3 * dim + 9) + 2 * images * (dim // 2) * (dim + 9)


def dense_head_flops(config: NetworkConfig, height: int, width: int, outputs: int) -> float:
    """Return the operations of one dense head on one image, as the released code computes it."""
    rows, columns = config.patch_grid(height, width)
    features = config.dense_features
    grids = [
        (4 * rows, 4 * columns),
        (2 * rows, 2 * columns),
        (rows, columns),
        ((rows + 1) // 2, (columns + 1) // 2),
    ]
    cells = [r * c for r, c in grids]
    channels = config.dense_channels
    total = sum(2 * rows * columns * config.token_dim * width_ for width_ in channels)
    # transposed convolutions: stride = kernel size
    total += 2 * cells[0] * channels[0] ** 2 + 2 * cells[1] * channels[1] ** 2
    total += 2 * 9 * cells[3] * channels[3] ** 2
    total += sum(2 * 9 * n * width_ * features for n, width_ in zip(cells, channels, strict=True))
    for level, n in enumerate(cells):
        units = 2 if level == 3 else 4  # 3x3 convolutions; the deepest level has one residual unit
        finer = cells[level - 1] if level else 4 * n
        total += units * 2 * 9 * n * features**2 + 2 * finer * features**2
    half = features // 2
    return (
        total
        + 2 * 9 * 4 * cells[0] * features * half
        + 2 * height * width * (9 * half * 32 + 32 * outputs)
    )


def _linear(tokens: int, dim: int, mlp_ratio: float) -> float:
    """Return the operations of a block's projections and MLP."""
    return 2 * tokens * dim * dim * (4 + 2 * mlp_ratio)


def _newton_schulz(config: NetworkConfig) -> float:
    """Return the operations of one step of one layer: three matrices per head."""
    d, m = config.head_dim, config.fast_hidden
    return 3 * config.num_heads * config.newton_schulz_steps * (4 * d * d * m + 2 * d**3)
