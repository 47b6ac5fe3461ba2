"""Softmax attention by the fastest exact kernel of the device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import uses_onednn

_TILE = 4 << 20  # scores per tile on a CPU: 8 MB in bfloat16, which fits the last-level cache
_LEAST_ROWS = 128  # fewest queries per tile for which tiling pays


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the softmax attention of q [sequences, queries, heads, d] over k and v [sequences,
    keys, heads, d], in q's shape.

    On CPUs without AMX, torch's fused kernel reaches a fifth of the rate of the matrix product;
    tiles of scores are faster there.
    """
    if _tiles_pay(q, k):
        return _attend_in_tiles(q, k, v)
    return F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    ).transpose(1, 2)


def _tiles_pay(q: Tensor, k: Tensor) -> bool:
    if not uses_onednn(q) or k.shape[1] * _LEAST_ROWS > _TILE:
        return False
    return q.dtype == torch.bfloat16 or min(q.shape[1], k.shape[1]) >= _LEAST_ROWS


def _attend_in_tiles(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    sequences, queries, heads, d = q.shape
    scaled = torch.empty(sequences, heads, queries, d, dtype=q.dtype)
    q = torch.mul(q.transpose(1, 2), d**-0.5, out=scaled).flatten(0, 1)
    k, v = k.transpose(1, 2).flatten(0, 1), v.transpose(1, 2).flatten(0, 1)
    out = torch.empty(sequences * heads, queries, d, dtype=q.dtype)
    rows = min(queries, _TILE // k.shape[1])
    group = max(1, _TILE // (rows * k.shape[1])) if q.dtype == torch.bfloat16 else 1
    for first in range(0, len(q), group):
        part = slice(first, first + group)
        keys, values = k[part].contiguous(), v[part].contiguous()
        for row in range(0, queries, rows):
            scores = _product(q[part, row : row + rows], keys.transpose(1, 2))
            torch.softmax(scores, dim=-1, out=scores)
            out[part, row : row + rows] = _product(scores, values)
    attended: Tensor = out.unflatten(0, (sequences, heads)).transpose(1, 2)
    return attended


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a [n, rows, inner] @ b [n, inner, columns]. In float32 n must be 1: oneDNN has no
    batched product for it.
    """
    if a.dtype == torch.bfloat16:
        return torch.bmm(a, b)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a[0], b[0].t(), None, "none", [], "none")
    return product[None]
