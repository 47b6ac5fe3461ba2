"""Blocks in which tokens of different images meet: fast weights (VGG-T³) or softmax over everything (VGGT).

Both add to the stream in the same way; what differs is what they take from every image before the first can be finished:
associations for the fast weights, keys and values for softmax. The loop over chunks is in ``map_pass.py``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fast_weights
from .attention import attend
from .blocks import Attention, Block, LayerScale, Mlp
from .config import NetworkConfig
from .fast_weights import Associations
from .layout import TokenLayout
from .linear import linear
from .progress import Progress
from .rope import rotate
from .scratch import Scratch


class FastWeightAttention(nn.Module):
    """Projections around the fast MLP. w0..w2 are where every scene starts: random, stored, never trained."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        dim, heads, d, m = config.embed_dim, config.num_heads, config.head_dim, config.fast_hidden
        self.num_heads = heads
        self.newton_schulz_steps = config.newton_schulz_steps
        self.rate_offset = math.log(math.expm1(config.base_rate))  # softplus of it is the base rate
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lr_fc = nn.Linear(dim, 3 * heads)
        convolution = nn.Module()
        convolution.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.short_conv_qkv = nn.ModuleDict({"2": convolution})
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("w0", torch.zeros(heads, d, m))
        self.register_buffer("w1", torch.zeros(heads, m, d))
        self.register_buffer("w2", torch.zeros(heads, d, m))

    def initial_weights(self) -> Tensor:
        """Stacked fast weights [3, heads, d, m], float32, of an empty scene."""
        return fast_weights.stack_weights(self.w0, self.w1, self.w2)

    def associations(self, x: Tensor, layout: TokenLayout, scratch: Scratch, out: Tensor) -> None:
        """Write keys, values and rates of x [images, tokens, channels] (already normed) to out [.., 2 * channels + 3 * heads]."""
        dim = x.shape[-1]
        kv = linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:], scratch, "keys_values")
        k, v = kv.split(dim, dim=-1)
        v[:, layout.special_tokens :] = self._mix_neighbours(v[:, layout.special_tokens :], layout)
        out[..., :dim] = self._unit(k, layout).flatten(-2)
        out[..., dim : 2 * dim] = F.silu(v, inplace=True)
        rates = F.linear(x, self.lr_fc.weight, self.lr_fc.bias)
        out[..., 2 * dim :] = F.softplus(rates + self.rate_offset)

    def unpack(self, packed: Tensor) -> Associations:
        """View what ``associations`` wrote [images, tokens, ..] as keys, values and rates of a flat list of tokens."""
        heads = self.num_heads
        packed = packed.flatten(0, 1)
        dim = (packed.shape[-1] - 3 * heads) // 2
        k, v, rates = packed.split((dim, dim, 3 * heads), dim=-1)
        return Associations(k.unflatten(-1, (heads, -1)), v.unflatten(-1, (heads, -1)), rates.unflatten(-1, (3, heads)))

    def recall(self, x: Tensor, weights: Tensor, layout: TokenLayout, scratch: Scratch) -> Tensor:
        """What the scene answers to x [images, tokens, channels] (already normed)."""
        dim = x.shape[-1]
        q = linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim], scratch, "queries")
        answers = fast_weights.read_out(weights, self._unit(q, layout).flatten(0, 1), scratch)
        return linear(answers.view(x.shape), self.proj.weight, self.proj.bias, scratch, "attention_out")

    def _unit(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """SiLU, rotary position, unit length, per head: [images, tokens, channels] -> [images, tokens, heads, d]."""
        x = F.silu(x).unflatten(-1, (self.num_heads, -1))
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # rotation keeps it
        return rotate(x, layout.rotary).div_(length.add_(fast_weights.NORM_EPS))

    def _mix_neighbours(self, v: Tensor, layout: TokenLayout) -> Tensor:
        """Depthwise 3x3 convolution over the patch grid of v [images, patches, channels]."""
        image = v.unflatten(1, layout.grid).permute(0, 3, 1, 2)  # channels last in memory already
        return self.short_conv_qkv["2"].conv(image).permute(0, 2, 3, 1).flatten(1, 2)


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

    def associations(self, x: Tensor, layout: TokenLayout, scratch: Scratch, out: Tensor) -> Tensor:
        self.attn.associations(self.norm1(x), layout, scratch, out)
        return out

    def finish(self, x: Tensor, weights: Tensor, layout: TokenLayout, scratch: Scratch) -> Tensor:
        """Advance the stream x [images, tokens, channels] in place, reading from the scene's weights."""
        self.ls1.add_to(x, self.attn.recall(self.norm1(x), weights, layout, scratch))
        self.ls2.add_to(x, self.mlp(self.norm2(x), scratch))
        return x


class SoftmaxBlock(Block):
    """Pre-norm block whose queries attend to the tokens of all images."""

    def __init__(self, config: NetworkConfig):
        super().__init__(config.embed_dim, config.num_heads, config.mlp_ratio, normalise_qk=True)

    attn: Attention

    def keys_values(self, x: Tensor, layout: TokenLayout, scratch: Scratch, out: Tensor) -> None:
        """Write keys and values of the stream x to out [images, tokens, 2, heads, d]."""
        attention, dim = self.attn, x.shape[-1]
        kv = linear(self.norm1(x), attention.qkv.weight[dim:], attention.qkv.bias[dim:], scratch, "keys_values")
        k, v = kv.unflatten(-1, (2, attention.num_heads, -1)).unbind(-3)
        out[:, :, 0] = rotate(attention.k_norm(k), layout.rotary)
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
        """Advance x [images, tokens, channels] in place; keys and values [1, all tokens, heads, d]."""
        attention, dim = self.attn, x.shape[-1]
        q = linear(self.norm1(x), attention.qkv.weight[:dim], attention.qkv.bias[:dim], scratch, "queries")
        q = rotate(attention.q_norm(q.unflatten(-1, (attention.num_heads, -1))), layout.rotary)
        q = q.flatten(0, 1).unsqueeze(0)
        parts = []
        for part in q.split(queries_at_once, dim=1):
            parts.append(attend(part, keys, values))
            progress.check()
        attended = torch.cat(parts, dim=1).view(*x.shape[:2], attention.num_heads, -1)
        self.ls1.add_to(x, attention.project(attended, scratch))
        return self.add_mlp(x, scratch)
