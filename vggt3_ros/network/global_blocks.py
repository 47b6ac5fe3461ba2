"""Blocks in which tokens of different images interact: fast weights (VGG-T³) or softmax over all
tokens (VGGT).

Both add to the stream in the same way. They differ in what they must collect from every image
before the first can be finished: associations for the fast weights, keys and values for softmax.
The loop over chunks is in ``map_pass.py``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fast_weights, fused
from .attention import attend
from .blocks import Attention, Block, LayerScale, Mlp, norm_rotated
from .config import NetworkConfig
from .fast_weights import Associations
from .layout import TokenLayout
from .linear import linear
from .progress import Progress
from .rope import rotate
from .scratch import Scratch


class ValueConvolution(nn.Module):
    """Depthwise 3x3 convolution of the values, under the name of the released checkpoints."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)


class FastWeightAttention(nn.Module):
    """Projections around the fast MLP. w0..w2 are the initial fast weights of every scene: random,
    stored in the checkpoint, never trained.
    """

    w0: Tensor
    w1: Tensor
    w2: Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        dim, heads, d, m = config.embed_dim, config.num_heads, config.head_dim, config.fast_hidden
        self.num_heads = heads
        self.newton_schulz_steps = config.newton_schulz_steps
        # softplus(rate_offset) = base_rate
        self.rate_offset = math.log(math.expm1(config.base_rate))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lr_fc = nn.Linear(dim, 3 * heads)
        self.short_conv_qkv = nn.ModuleDict({"2": ValueConvolution(dim)})
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("w0", torch.zeros(heads, d, m))
        self.register_buffer("w1", torch.zeros(heads, m, d))
        self.register_buffer("w2", torch.zeros(heads, d, m))

    def initial_weights(self) -> Tensor:
        """Return the stacked fast weights [3, heads, d, m] of an empty scene, float32."""
        return fast_weights.stack_weights(self.w0, self.w1, self.w2)

    def associations(self, x: Tensor, layout: TokenLayout, scratch: Scratch, out: Tensor) -> None:
        """Write keys, values and rates of x [images, tokens, channels] (already normalised) to out
        [.., 2 * channels + 3 * heads].
        """
        dim = x.shape[-1]
        kv = linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:], scratch, "keys_values")
        k, v = kv.split(dim, dim=-1)
        self._unit(k, layout, out[..., :dim])
        values, special = out[..., dim : 2 * dim], layout.special_tokens
        torch.ops.aten.silu.out(v[:, :special], out=values[:, :special])
        torch.ops.aten.silu.out(
            self._mix_neighbours(v[:, special:], layout), out=values[:, special:]
        )
        rates = F.linear(x, self.lr_fc.weight, self.lr_fc.bias)
        out[..., 2 * dim :] = F.softplus(rates + self.rate_offset)

    def unpack(self, packed: Tensor) -> Associations:
        """View the output of ``associations`` [images, tokens, ..] as keys, values and rates of a
        flat list of tokens.
        """
        heads = self.num_heads
        packed = packed.flatten(0, 1)
        dim = (packed.shape[-1] - 3 * heads) // 2
        k, v, rates = packed.split((dim, dim, 3 * heads), dim=-1)
        return Associations(
            k.unflatten(-1, (heads, -1)),
            v.unflatten(-1, (heads, -1)),
            rates.unflatten(-1, (3, heads)),
        )

    def recall(self, x: Tensor, weights: Tensor, layout: TokenLayout, scratch: Scratch) -> Tensor:
        """Return what the scene's weights recall for x [images, tokens, channels] (already
        normalised).
        """
        dim = x.shape[-1]
        q = linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim], scratch, "queries")
        q = self._unit(q, layout, scratch.take("unit_queries", *q.shape))
        answers = fast_weights.read_out(
            weights, q.unflatten(-1, (self.num_heads, -1)).flatten(0, 1), scratch
        )
        return linear(
            answers.view(x.shape), self.proj.weight, self.proj.bias, scratch, "attention_out"
        )

    def _unit(self, x: Tensor, layout: TokenLayout, out: Tensor) -> Tensor:
        """Apply SiLU, rotary position and unit length per head to x [images, tokens, channels];
        write to out, of the same shape.
        """
        x, heads = x.unflatten(-1, (self.num_heads, -1)), out.unflatten(-1, (self.num_heads, -1))
        if fused.usable(x):
            fused.unit_rotated(
                x, layout.rotary.cos, layout.rotary.sin, fast_weights.NORM_EPS, heads
            )
            return out
        x = F.silu(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # rotation preserves it
        torch.div(rotate(x, layout.rotary), length.add_(fast_weights.NORM_EPS), out=heads)
        return out

    def _mix_neighbours(self, v: Tensor, layout: TokenLayout) -> Tensor:
        """Apply a depthwise 3x3 convolution over the patch grid to v [images, patches, channels]."""
        image = v.unflatten(1, layout.grid).permute(0, 3, 1, 2)  # already channels-last in memory
        mixed: Tensor = self.value_convolution(image).permute(0, 2, 3, 1).flatten(1, 2)
        return mixed

    @property
    def value_convolution(self) -> nn.Conv2d:
        """The convolution that mixes the values of neighbouring patches."""
        found = self.short_conv_qkv["2"]
        assert isinstance(found, ValueConvolution)
        return found.conv


class FastWeightBlock(nn.Module):
    """Pre-norm block whose attention is the fast MLP."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim)
        self.attn = FastWeightAttention(config)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.ls2 = LayerScale(dim)

    def associations(
        self, x: Tensor, layout: TokenLayout, scratch: Scratch, out: Tensor
    ) -> Tensor:
        """Write the associations of the stream x to ``out`` and return it; see
        FastWeightAttention.associations.
        """
        self.attn.associations(self.norm1(x), layout, scratch, out)
        return out

    def finish(self, x: Tensor, weights: Tensor, layout: TokenLayout, scratch: Scratch) -> Tensor:
        """Advance the stream x [images, tokens, channels] in place, reading from the scene's fast
        weights.
        """
        recalled = self.attn.recall(self.norm1(x), weights, layout, scratch)
        self.ls2.add_to(
            x, self.mlp(self.ls1.add_then_norm(x, recalled, self.norm2, scratch), scratch)
        )
        return x


class SoftmaxBlock(Block):
    """Pre-norm block whose queries attend to the tokens of all images."""

    def __init__(self, config: NetworkConfig):
        super().__init__(config.embed_dim, config.num_heads, config.mlp_ratio, normalise_qk=True)

    attn: Attention

    def keys_values(self, x: Tensor, layout: TokenLayout, scratch: Scratch, out: Tensor) -> None:
        """Write keys and values of the stream x to out [images, tokens, 2, heads, d]."""
        attention, dim = self.attn, x.shape[-1]
        kv = linear(
            self.norm1(x),
            attention.qkv.weight[dim:],
            attention.qkv.bias[dim:],
            scratch,
            "keys_values",
        )
        k, v = kv.unflatten(-1, (2, attention.num_heads, -1)).unbind(-3)
        norm_rotated(attention.k_norm, k, layout.rotary, out[:, :, 0])
        out[:, :, 1] = v

    def finish(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        queries_at_once: int,
        layout: TokenLayout,
        scratch: Scratch,
        progress: Progress,
    ) -> Tensor:
        """Advance x [images, tokens, channels] in place and return it.

        keys, values: [1, all tokens, heads, d]. ``queries_at_once`` bounds the queries per
        attention call; cancellation is checked between calls.
        """
        attention, dim = self.attn, x.shape[-1]
        q = linear(
            self.norm1(x), attention.qkv.weight[:dim], attention.qkv.bias[:dim], scratch, "queries"
        )
        q = q.unflatten(-1, (attention.num_heads, -1))
        q = norm_rotated(
            attention.q_norm, q, layout.rotary, scratch.take("rotated_queries", *q.shape)
        )
        q = q.flatten(0, 1).unsqueeze(0)
        parts = []
        for part in q.split(queries_at_once, dim=1):
            parts.append(attend(part, keys, values))
            progress.check()
        attended = torch.cat(parts, dim=1).view(*x.shape[:2], attention.num_heads, -1)
        return self.add_update(x, attention.project(attended, scratch), scratch)
