"""The numbers that define the network's shape and arithmetic."""

from dataclasses import dataclass
from enum import StrEnum


class GlobalAttention(StrEnum):
    """How tokens of different images exchange information: the only difference between the two
    checkpoints.
    """

    FAST_WEIGHTS = "ttt"
    SOFTMAX = "softmax"


@dataclass(frozen=True)
class EncoderShape:
    """Shape of a DINOv2 vision transformer with register tokens: embedding width, number of
    blocks, number of heads.
    """

    embed_dim: int
    depth: int
    num_heads: int


CONVOLUTION = "conv"  # no transformer: a token is a linear map of the patch's pixels

ENCODERS = {
    "dinov2_vits14_reg": EncoderShape(384, 12, 6),
    "dinov2_vitb14_reg": EncoderShape(768, 12, 12),
    "dinov2_vitl14_reg": EncoderShape(1024, 24, 16),
    "dinov2_vitg2_reg": EncoderShape(1536, 40, 24),
}


# A checkpoint may declare any numbers. These bounds allow a network several times the size of the
# published ones, and still let its tensors be enumerated within a second.
_LARGEST = {
    "embed_dim": 8192, "depth": 128, "num_heads": 256, "mlp_ratio": 64, "num_register_tokens": 1024, "image_size": 16_384,
    "patch_size": 1024, "tapped_layers": 127, "inner_steps": 1000, "newton_schulz_steps": 100, "fast_hidden_ratio": 64,
    "camera_depth": 128, "camera_heads": 256, "camera_iterations": 100, "dense_features": 8192, "dense_channels": 16_384,
}  # fmt: skip


@dataclass(frozen=True)
class NetworkConfig:
    """Configuration of the network; the defaults are those of the published VGG-T³ checkpoint.

    Raises ValueError if the numbers are out of range or contradict each other.
    """

    attention: GlobalAttention = GlobalAttention.FAST_WEIGHTS
    encoder: str = "dinov2_vitl14_reg"  # a key of ENCODERS, or CONVOLUTION
    embed_dim: int = 1024
    depth: int = 24  # number of frame blocks; there are as many global blocks
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_register_tokens: int = 4
    # native side, pixels: sets the size of the stored position embedding, not of the input
    image_size: int = 518
    patch_size: int = 14  # pixels
    tapped_layers: tuple[int, ...] = (4, 11, 17, 23)  # layers that feed the dense heads
    rope_base: float = 100.0
    # fast-weight updates per map(); one more for every 1000 images
    inner_steps: int = 2
    newton_schulz_steps: int = 5
    base_rate: float = 0.01  # per-token learning rate where the learned offset is 0
    fast_hidden_ratio: int = 4  # hidden width of the fast MLP / head width
    camera_depth: int = 4  # blocks of the camera head
    camera_heads: int = 16
    camera_iterations: int = 4
    dense_features: int = 256
    dense_channels: tuple[int, ...] = (256, 512, 1024, 1024)

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if not all(
                isinstance(number, (int, float)) and 0 <= number <= most for number in values
            ):
                raise ValueError(f"{name} must be in 0..{most}, got {value!r:.80}")
        if self.encoder not in (*ENCODERS, CONVOLUTION):
            raise ValueError(
                f"unknown encoder {self.encoder!r}; known: {', '.join((*ENCODERS, CONVOLUTION))}"
            )
        if self.encoder_shape.embed_dim != self.embed_dim:
            raise ValueError(
                f"{self.encoder} has embed_dim {self.encoder_shape.embed_dim}, the configuration says {self.embed_dim}"
            )
        if self.embed_dim % self.num_heads or (self.embed_dim // self.num_heads) % 4:
            raise ValueError(
                f"embed_dim {self.embed_dim} / {self.num_heads} heads must be a multiple of 4 (2-D RoPE)"
            )
        if 2 * self.embed_dim % self.camera_heads:
            raise ValueError(
                f"camera_heads {self.camera_heads} must divide 2 * embed_dim = {2 * self.embed_dim}"
            )
        if len(self.tapped_layers) != 4 or len(self.dense_channels) != 4:
            raise ValueError(
                "the dense heads need exactly four tapped_layers and four dense_channels"
            )
        if not all(0 <= layer < self.depth for layer in self.tapped_layers):
            raise ValueError(f"tapped_layers {self.tapped_layers} are outside 0..{self.depth - 1}")

    @property
    def encoder_shape(self) -> EncoderShape:
        """Shape of the encoder; the convolution counts as 0 blocks of the trunk's width."""
        return (
            EncoderShape(self.embed_dim, 0, self.num_heads)
            if self.encoder == CONVOLUTION
            else ENCODERS[self.encoder]
        )

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def fast_hidden(self) -> int:
        return self.head_dim * self.fast_hidden_ratio

    @property
    def token_dim(self) -> int:
        """Width of the heads' input: frame and global block outputs, concatenated."""
        return 2 * self.embed_dim

    @property
    def special_tokens(self) -> int:
        """Tokens per image that are not patches: one camera token and the registers."""
        return 1 + self.num_register_tokens

    @property
    def native_grid(self) -> int:
        return self.image_size // self.patch_size

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the patch rows and columns of an image of this size in pixels.

        Raise ValueError unless both sides are positive multiples of the patch size.
        """
        if height <= 0 or width <= 0 or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"image {height}x{width}: both sides must be positive multiples of {self.patch_size}"
            )
        return height // self.patch_size, width // self.patch_size

    def tokens_per_image(self, height: int, width: int) -> int:
        rows, columns = self.patch_grid(height, width)
        return self.special_tokens + rows * columns

    def steps_for(self, image_count: int) -> int:
        """Return the number of inner steps that the released code takes for this many images."""
        return self.inner_steps + image_count // 1000


VGG_T3 = NetworkConfig()
VGGT_1B = NetworkConfig(attention=GlobalAttention.SOFTMAX)
