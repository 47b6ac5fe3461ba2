"""Transformer blocks with softmax attention (pre-norm ViT, arXiv 2010.11929, with LayerScale,
arXiv 2103.17239).

Blocks update the residual stream x [images, tokens, channels] in place; the caller owns it.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from . import fused
from .attention import attend
from .linear import linear
from .rope import RotaryTable, rotate
from .scratch import Scratch

Kind = TypeVar("Kind", bound=nn.Module)


def typed(modules: nn.ModuleList, kind: type[Kind]) -> list[Kind]:
    """Return the modules of a list with their type, which nn.ModuleList does not keep.

    Raise TypeError if one is of another type.
    """
    found = [module for module in modules if isinstance(module, kind)]
    if len(found) != len(modules):
        raise TypeError(f"expected modules of type {kind.__name__} only")
    return found


class LayerScale(nn.Module):
    """A learned factor per channel on the update that a block adds to the stream."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def add_to(self, x: Tensor, update: Tensor) -> None:
        """Compute x += gamma * update in place."""
        if fused.usable(x):
            fused.add(x, update, self.gamma)
        else:
            x.addcmul_(update, self.gamma)

    def add_then_norm(
        self, x: Tensor, update: Tensor, norm: nn.LayerNorm, scratch: Scratch
    ) -> Tensor:
        """Compute x += gamma * update in place and return norm(x), which is valid until the next
        block.
        """
        if fused.usable(x):
            return fused.add_norm(
                x,
                update,
                self.gamma,
                norm.weight,
                norm.bias,
                norm.eps,
                scratch.take("normed", *x.shape),
            )
        self.add_to(x, update)
        normed: Tensor = norm(x)
        return normed


def norm_rotated(norm: nn.LayerNorm, x: Tensor, table: RotaryTable, out: Tensor) -> Tensor:
    """Write the per-head LayerNorm of x [images, tokens, heads, d], rotated by position, to out of
    the same shape.
    """
    if fused.usable(x):
        return fused.norm_rotated(x, table.cos, table.sin, norm.weight, norm.bias, norm.eps, out)
    return out.copy_(rotate(norm(x), table))


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int, out: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out or dim)

    def forward(self, x: Tensor, scratch: Scratch) -> Tensor:
        hidden = linear(x, self.fc1.weight, self.fc1.bias, scratch, "mlp_hidden", gelu=True)
        return linear(hidden, self.fc2.weight, self.fc2.bias, scratch, "mlp_out")


class Attention(nn.Module):
    """Softmax self-attention within each sequence; optional per-head q/k LayerNorm and rotary
    positions.
    """

    def __init__(self, dim: int, num_heads: int, normalise_qk: bool = False):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        head_dim = dim // num_heads
        if normalise_qk:
            self.q_norm = nn.LayerNorm(head_dim)
            self.k_norm = nn.LayerNorm(head_dim)
        self.normalise_qk = normalise_qk
        self.proj = nn.Linear(dim, dim)

    def queries_keys_values(
        self, x: Tensor, table: RotaryTable | None, scratch: Scratch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v [sequences, tokens, heads, head_dim]; v is a view of scratch memory."""
        qkv = linear(x, self.qkv.weight, self.qkv.bias, scratch, "qkv")
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        if self.normalise_qk and table is not None:
            q = norm_rotated(self.q_norm, q, table, scratch.take("rotated_queries", *q.shape))
            k = norm_rotated(self.k_norm, k, table, scratch.take("rotated_keys", *k.shape))
        elif self.normalise_qk:
            q, k = self.q_norm(q), self.k_norm(k)
        elif table is not None:
            q, k = rotate(q, table), rotate(k, table)
        return q, k, v

    def forward(self, x: Tensor, table: RotaryTable | None, scratch: Scratch) -> Tensor:
        q, k, v = self.queries_keys_values(x, table, scratch)
        return self.project(attend(q, k, v), scratch)

    def project(self, attended: Tensor, scratch: Scratch) -> Tensor:
        """Project attended [sequences, tokens, heads, head_dim] to [sequences, tokens, channels]."""
        return linear(
            attended.flatten(-2), self.proj.weight, self.proj.bias, scratch, "attention_out"
        )


class Block(nn.Module):
    """x += scale * attention(norm(x)); x += scale * mlp(norm(x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        norm_eps: float = 1e-5,
        normalise_qk: bool = False,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, normalise_qk)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor, table: RotaryTable | None, scratch: Scratch) -> Tensor:
        """Advance the stream x [sequences, tokens, channels] in place and return it."""
        return self.add_update(x, self.attn(self.norm1(x), table, scratch), scratch)

    def add_update(self, x: Tensor, update: Tensor, scratch: Scratch) -> Tensor:
        """Add the attention's output for x, then the MLP's. Called alone by global blocks, whose
        attention spans more tokens than x.
        """
        self.ls2.add_to(
            x, self.mlp(self.ls1.add_then_norm(x, update, self.norm2, scratch), scratch)
        )
        return x
