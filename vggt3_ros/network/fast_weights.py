"""A scene as the weights of a small MLP: test-time training with Muon updates (VGG-T³, arXiv
2602.23361, sec. 3).

Per head the fast MLP is f(x) = (silu(x w0) * (x w2)) w1, with w0, w2 [d, m] and w1 [m, d]. All
three are stored in one tensor ``weights [3, heads, d, m]`` in the order w0, w1^T, w2. Every
product with a token then has the same shape, the gradients come out in the layout of the weights,
and one Newton-Schulz call serves all three.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fused
from .scratch import Scratch

# Muon's quintic, which drives singular values towards 1 (Jordan et al. 2024)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NORM_EPS = 1e-5
# on a CPU, a core's share of the second-level cache
_WORK_BYTES = {"cpu": 16 << 20, "cuda": 1 << 30}


@dataclass(frozen=True)
class Associations:
    """What the fast MLP is to remember of some tokens: keys and values [tokens, heads, d],
    learning rates [tokens, 3, heads].
    """

    keys: Tensor
    values: Tensor
    rates: Tensor


def stack_weights(w0: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    """Stack w0, w2 [heads, d, m] and w1 [heads, m, d] as float32 [3, heads, d, m]."""
    return torch.stack((w0.float(), w1.float().transpose(-1, -2), w2.float()))


def unstack_weights(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return views w0 [heads, d, m], w1 [heads, m, d] and w2 [heads, d, m] of stacked weights."""
    w0, w1_transposed, w2 = weights
    return w0, w1_transposed.transpose(-1, -2), w2


def objective(weights: Tensor, tokens: Associations) -> Tensor:
    """Return what an inner step increases: per weight matrix, the rate-weighted sum of <f(key),
    value> [3].
    """
    w0, w1, w2 = unstack_weights(weights)
    k, v = tokens.keys.transpose(0, 1), tokens.values.transpose(0, 1)
    recalled = (F.silu(k @ w0) * (k @ w2)) @ w1
    agreement = (recalled * v).sum(-1)  # [heads, tokens]
    return torch.einsum("ht,tih->i", agreement, tokens.rates)


def _heads_at_once(tokens: int, heads: int, elements_per_head: int, like: Tensor) -> int:
    """Return the largest divisor of the head count whose intermediates fit the working set."""
    limit = _WORK_BYTES.get(like.device.type, _WORK_BYTES["cpu"])
    group = max(1, limit // max(1, tokens * elements_per_head * like.element_size()))
    return next(n for n in range(min(group, heads), 0, -1) if heads % n == 0)


def add_gradients(total: Tensor, weights: Tensor, tokens: Associations, scratch: Scratch) -> None:
    """Add the objective's gradient over these tokens to total [3, heads, d, m] (float32).

    With g = k w0, h = k w2, d = v w1^T, a = silu(g) h:  G1^T = (v r1)^T a,  G0 = (k r0)^T [d h
    silu'(g)],  G2 = (k r2)^T [d silu(g)]. These are sums over tokens, so the total does not depend
    on how the tokens are split. The rates multiply the narrow factor; g, h and d are computed once
    for all three.
    """
    if fused.usable(tokens.keys):
        fused.add_gradients(total, weights, tokens.keys, tokens.values, tokens.rates)
        return
    count, heads, d = tokens.keys.shape
    m = weights.shape[-1]
    weights = weights.to(tokens.keys.dtype)
    group = _heads_at_once(count, heads, 6 * m + 3 * d, tokens.keys)
    for first in range(0, heads, group):
        part = slice(first, first + group)
        k, v = tokens.keys[:, part].transpose(0, 1), tokens.values[:, part].transpose(0, 1)
        hidden = scratch.take("fast_hidden", 3, group, count, m)
        g, back, h = hidden
        torch.bmm(k, weights[0, part], out=g)
        torch.bmm(v, weights[1, part], out=back)
        torch.bmm(k, weights[2, part], out=h)

        rates = tokens.rates[:, :, part].permute(1, 2, 0).unsqueeze(-1)  # [3, group, tokens, 1]
        narrow = scratch.take("fast_narrow", 3, group, count, d)
        for matrix, source in enumerate((k, v, k)):
            torch.mul(source, rates[matrix], out=narrow[matrix])

        wide = scratch.take("fast_wide", 3, group, count, m)
        torch.ops.aten.silu.out(g, out=wide[1])
        torch.mul(wide[1], back, out=wide[2])
        wide[1].mul_(h)
        back.mul_(h)
        torch.ops.aten.silu_backward.grad_input(back, g, grad_input=wide[0])

        gradient = torch.bmm(narrow.flatten(0, 1).transpose(1, 2), wide.flatten(0, 1))
        total[:, part] += gradient.view(3, group, d, m)


def orthogonalise(gradient: Tensor, steps: int) -> Tensor:
    """Return the matrices [..., d, m], d <= m, with their singular values driven towards 1 by
    Newton-Schulz iterations.

    The Gram matrix is formed on the smaller side, which is always d: w1 is stored transposed.
    """
    a, b, c = NEWTON_SCHULZ
    x: Tensor = gradient / (torch.linalg.matrix_norm(gradient, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


def column_norms(weights: Tensor) -> Tensor:
    """Return the norms over the input dimension of w0, w1 and w2, expanded to the shape of the
    stacked weights [3, heads, d, m].
    """
    over_d = weights.norm(dim=-2, keepdim=True).expand_as(weights)
    # w1 is stored transposed: its input dimension is m
    over_m = weights.norm(dim=-1, keepdim=True).expand_as(weights)
    return torch.stack((over_d[0], over_m[1], over_d[2]))


def take_step(
    weights: Tensor, gradient: Tensor, norms: Tensor, newton_schulz_steps: int
) -> Tensor:
    """Return weights + NS(gradient), with every column rescaled to ``norms``, its norm at the
    start of the scene.
    """
    moved = weights + orthogonalise(gradient, newton_schulz_steps)
    return moved / (column_norms(moved) + NORM_EPS) * norms


def read_out(weights: Tensor, queries: Tensor, scratch: Scratch) -> Tensor:
    """Return f(queries) [tokens, heads, d] for queries [tokens, heads, d]; each head has its own
    MLP.
    """
    count, heads, d = queries.shape
    m = weights.shape[-1]
    out = scratch.take("fast_out", count, heads, d)
    if fused.usable(queries):
        return fused.read_out(weights, queries, out)
    weights = weights.to(queries.dtype)
    group = _heads_at_once(count, heads, 2 * m + d, queries)
    for first in range(0, heads, group):
        part = slice(first, first + group)
        q = queries[:, part].transpose(0, 1)
        g, h = scratch.take("fast_hidden", 2, group, count, m)
        torch.bmm(q, weights[0, part], out=g)
        torch.bmm(q, weights[2, part], out=h)
        torch.ops.aten.silu.out(g, out=g)
        g.mul_(h)
        out[:, part] = torch.bmm(g, weights[1, part].transpose(-1, -2)).transpose(0, 1)
    return out
