"""Triton kernels for operations that PyTorch runs as many passes over memory: the fast MLP, the
per-head preparation of queries and keys, and the residual update.

They need a CUDA device and Triton, which PyTorch's CUDA wheels include; see :func:`usable`. The
formulas are those of ``fast_weights.py``, ``global_blocks.py`` and ``attention.py``; intermediates
stay in registers instead of device memory. Sums are in float32; operands of matrix products are
rounded to the input's dtype, as on the plain path.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Triton compiles the kernels: their arguments are pointers and compile-time constants, and Triton
# itself interprets annotations on them.

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # not included in PyTorch's CPU wheels
    triton = None

# thread blocks per multiprocessor for a gradient: enough to hide the loads of one behind the
# products of another
_MULTIPROCESSORS_PER_SPLIT = 2


def usable(x: Tensor) -> bool:
    """Whether the kernels support tensors like x: 16-bit, on a GPU, outside torch.compile, which
    does its own fusion.
    """
    return (
        triton is not None
        and x.is_cuda
        and x.dtype in (torch.bfloat16, torch.float16)
        and not torch.compiler.is_compiling()
    )


if triton is not None:

    @triton.jit
    def _gradient_kernel(
        keys, values, rates, weights, partial, tokens, row_stride, head_stride,
        heads: tl.constexpr, D: tl.constexpr, M: tl.constexpr, SPLIT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr,
    ):  # fmt: skip
        """One head, BLOCK_M hidden units, SPLIT tokens: write the three gradients to the partial
        sums of the split.
        """
        head, units, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        dtype = keys.dtype.element_ty
        d = tl.arange(0, D)
        m = units * BLOCK_M + tl.arange(0, BLOCK_M)
        matrix = heads * D * M
        tile = head * D * M + d[:, None] * M + m[None, :]
        w0 = tl.load(weights + tile)
        w1 = tl.load(weights + matrix + tile)
        w2 = tl.load(weights + 2 * matrix + tile)
        g0 = tl.zeros((D, BLOCK_M), tl.float32)
        g1 = tl.zeros((D, BLOCK_M), tl.float32)
        g2 = tl.zeros((D, BLOCK_M), tl.float32)
        for start in range(0, SPLIT, BLOCK_T):
            t = split * SPLIT + start + tl.arange(0, BLOCK_T)
            row = t.to(tl.int64) * row_stride
            inside = t < tokens
            at = row[:, None] + head * head_stride + d[None, :]
            k = tl.load(keys + at, mask=inside[:, None], other=0.0)
            v = tl.load(values + at, mask=inside[:, None], other=0.0)
            r0 = tl.load(rates + row + head, mask=inside, other=0.0)
            r1 = tl.load(rates + row + heads + head, mask=inside, other=0.0)
            r2 = tl.load(rates + row + 2 * heads + head, mask=inside, other=0.0)
            g = tl.dot(k, w0)
            h = tl.dot(k, w2)
            back = tl.dot(v, w1)
            sigmoid = 1 / (1 + tl.exp(-g))
            silu = g * sigmoid
            g2 += tl.dot(tl.trans(k * r2[:, None]), (silu * back).to(dtype))
            g1 += tl.dot(tl.trans(v * r1[:, None]), (silu * h).to(dtype))
            g0 += tl.dot(
                tl.trans(k * r0[:, None]), (back * h * (sigmoid + silu * (1 - sigmoid))).to(dtype)
            )
        out = partial + split.to(tl.int64) * 3 * matrix + tile
        tl.store(out, g0)
        tl.store(out + matrix, g1)
        tl.store(out + 2 * matrix, g2)

    @triton.jit
    def _read_out_kernel(
        queries, weights, answers, tokens, row_stride, head_stride,
        heads: tl.constexpr, D: tl.constexpr, M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_M: tl.constexpr,
    ):  # fmt: skip
        """One head, BLOCK_T queries: (silu(q w0) * (q w2)) w1, BLOCK_M hidden units at a time."""
        head = tl.program_id(1)
        dtype = queries.dtype.element_ty
        t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
        d = tl.arange(0, D)
        inside = (t < tokens)[:, None]
        q = tl.load(
            queries + t.to(tl.int64)[:, None] * row_stride + head * head_stride + d[None, :],
            mask=inside,
            other=0.0,
        )
        matrix = heads * D * M
        out = tl.zeros((BLOCK_T, D), tl.float32)
        for start in range(0, M, BLOCK_M):
            tile = head * D * M + d[:, None] * M + start + tl.arange(0, BLOCK_M)[None, :]
            g = tl.dot(q, tl.load(weights + tile))
            h = tl.dot(q, tl.load(weights + 2 * matrix + tile))
            hidden = (g / (1 + tl.exp(-g)) * h).to(dtype)
            out += tl.dot(hidden, tl.trans(tl.load(weights + matrix + tile)))
        tl.store(
            answers + (t.to(tl.int64)[:, None] * heads + head) * D + d[None, :],
            out.to(dtype),
            mask=inside,
        )

    @triton.jit
    def _prepare_kernel(
        x, cos, sin, scale, shift, out, rows, tokens, row_stride, head_stride, out_row_stride,
        heads: tl.constexpr, D: tl.constexpr, NORMALISE: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        """BLOCK heads of consecutive rows: LayerNorm, or SiLU and unit length, then the rotary
        position of the row's token.
        """
        index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        r, head = index // heads, (index % heads)[:, None]
        d = tl.arange(0, D)
        inside = (r < rows)[:, None]
        swap = d ^ (D // 4)  # swap the two halves of each axis
        at = x + r.to(tl.int64)[:, None] * row_stride + head * head_stride
        plain = tl.load(at + d[None, :], mask=inside, other=0.0).to(tl.float32)
        other = tl.load(at + swap[None, :], mask=inside, other=0.0).to(tl.float32)
        if NORMALISE:
            mean = tl.sum(plain, 1) / D
            centred = plain - mean[:, None]
            factor = 1 / tl.sqrt(tl.sum(centred * centred, 1) / D + EPS)
            plain = (
                centred * factor[:, None] * tl.load(scale + d)[None, :]
                + tl.load(shift + d)[None, :]
            )
            other = (other - mean[:, None]) * factor[:, None] * tl.load(scale + swap)[
                None, :
            ] + tl.load(shift + swap)[None, :]
        else:
            plain = plain / (1 + tl.exp(-plain))
            other = other / (1 + tl.exp(-other))
            factor = 1 / (tl.sqrt(tl.sum(plain * plain, 1)) + EPS)
            plain, other = plain * factor[:, None], other * factor[:, None]
        angle = (r % tokens)[:, None] * D + d[None, :]
        c = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)
        s = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)
        turned = plain * c + other * s
        tl.store(
            out + r.to(tl.int64)[:, None] * out_row_stride + head * D + d[None, :],
            turned.to(out.dtype.element_ty),
            mask=inside,
        )

    @triton.jit
    def _add_norm_kernel(
        x, update, gamma, scale, shift, out, CHANNELS: tl.constexpr, NORMALISE: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        """One token: x += gamma * update; with NORMALISE out = LayerNorm(x)."""
        row = tl.program_id(0).to(tl.int64) * CHANNELS
        c = tl.arange(0, BLOCK)
        inside = c < CHANNELS
        dtype = x.dtype.element_ty
        stream = tl.load(x + row + c, mask=inside, other=0.0).to(tl.float32)
        added = tl.load(update + row + c, mask=inside, other=0.0).to(tl.float32)
        stream = (stream + tl.load(gamma + c, mask=inside, other=0.0).to(tl.float32) * added).to(
            dtype
        )
        tl.store(x + row + c, stream, mask=inside)
        if NORMALISE:
            stream = stream.to(tl.float32)
            mean = tl.sum(stream, 0) / CHANNELS
            centred = tl.where(inside, stream - mean, 0.0)
            factor = 1 / tl.sqrt(tl.sum(centred * centred, 0) / CHANNELS + EPS)
            normed = centred * factor * tl.load(scale + c, mask=inside, other=0.0) + tl.load(
                shift + c, mask=inside, other=0.0
            )
            tl.store(out + row + c, normed.to(dtype), mask=inside)


def add_gradients(
    total: Tensor, weights: Tensor, keys: Tensor, values: Tensor, rates: Tensor
) -> None:
    """Add the inner objective's gradient to total [3, heads, d, m], float32; see
    fast_weights.add_gradients.

    weights: [3, heads, d, m]. keys, values [tokens, heads, d] and rates [tokens, 3, heads] must be
    views of one packed tensor, with the same row stride. The order of summation is fixed, so that
    runs are repeatable.
    """
    tokens, heads, d = keys.shape
    m = weights.shape[-1]
    weights = weights.to(keys.dtype).contiguous()
    # 32271 tokens on an H100: 0.84 ms; separate torch passes 2.3 ms; blocks of 64 and 128 2.2 ms
    block_t, block_m = 32, min(64, m)
    splits = max(1, _wanted_blocks(keys) // (heads * (m // block_m)))
    # a power of two: every distinct value is compiled
    split = max(4 * block_t, triton.next_power_of_2(triton.cdiv(tokens, splits)))
    partial = torch.empty(
        triton.cdiv(tokens, split), *weights.shape, device=keys.device, dtype=torch.float32
    )
    _gradient_kernel[(heads, m // block_m, len(partial))](
        keys, values, rates, weights, partial, tokens, keys.stride(0), keys.stride(1), heads, d, m, split, block_t, block_m,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    total += partial.sum(0)


def _wanted_blocks(like: Tensor) -> int:
    """Return the number of thread blocks that fill the device."""
    count = (
        torch.cuda.get_device_properties(like.device).multi_processor_count if like.is_cuda else 4
    )
    return _MULTIPROCESSORS_PER_SPLIT * count


def read_out(weights: Tensor, queries: Tensor, out: Tensor) -> Tensor:
    """Write f(queries), queries [tokens, heads, d], to the contiguous out [tokens, heads, d]; see
    fast_weights.read_out.
    """
    tokens, heads, d = queries.shape
    m = weights.shape[-1]
    weights = weights.to(queries.dtype).contiguous()
    # 32271 tokens on an H100: 0.15 ms; separate torch passes 0.92 ms
    block_t, block_m = 64, min(64, m)
    _read_out_kernel[(triton.cdiv(tokens, block_t), heads)](
        queries, weights, out, tokens, queries.stride(0), queries.stride(1), heads, d, m, block_t, block_m, num_warps=4, num_stages=2,
    )  # fmt: skip
    return out


def unit_rotated(x: Tensor, cos: Tensor, sin: Tensor, eps: float, out: Tensor) -> Tensor:
    """Apply SiLU, unit length and rotary position to x [images, tokens, heads, d]; write to out of
    the same shape. cos, sin: [tokens, 1, d].
    """
    return _prepare(x, cos, sin, cos, cos, out, False, eps)


def norm_rotated(
    x: Tensor, cos: Tensor, sin: Tensor, scale: Tensor, shift: Tensor, eps: float, out: Tensor
) -> Tensor:
    """Apply per-head LayerNorm and rotary position to x [images, tokens, heads, d]; write to out
    of the same shape. cos, sin: [tokens, 1, d].
    """
    return _prepare(x, cos, sin, scale, shift, out, True, eps)


def _prepare(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    scale: Tensor,
    shift: Tensor,
    out: Tensor,
    normalise: bool,
    eps: float,
) -> Tensor:
    images, tokens, heads, d = x.shape
    flat, to = x.flatten(0, 1), out.flatten(0, 1)
    if flat.stride(-1) != 1 or to.stride(-1) != 1 or to.stride(-2) != d or d % 4 or d & (d - 1):
        raise ValueError(
            f"unsupported layout: heads of {d} values, strides {flat.stride()} -> {to.stride()}"
        )
    block = 64
    _prepare_kernel[(triton.cdiv(images * tokens * heads, block),)](
        flat, cos, sin, scale, shift, to, images * tokens, tokens, flat.stride(0), flat.stride(1), to.stride(0), heads, d, normalise, eps,
        block, num_warps=4,
    )  # fmt: skip
    return out


def add_norm(
    x: Tensor, update: Tensor, gamma: Tensor, scale: Tensor, shift: Tensor, eps: float, out: Tensor
) -> Tensor:
    """Compute x += gamma * update in place and out = LayerNorm(x). All are [..., channels] and
    contiguous.
    """
    return _add(x, update, gamma, scale, shift, out, True, eps)


def add(x: Tensor, update: Tensor, gamma: Tensor) -> Tensor:
    """Compute x += gamma * update in place. Both are [..., channels] and contiguous."""
    return _add(x, update, gamma, gamma, gamma, x, False, 0.0)


def _add(
    x: Tensor,
    update: Tensor,
    gamma: Tensor,
    scale: Tensor,
    shift: Tensor,
    out: Tensor,
    normalise: bool,
    eps: float,
) -> Tensor:
    channels = x.shape[-1]
    block = triton.next_power_of_2(channels)
    _add_norm_kernel[(x.numel() // channels,)](
        x, update, gamma, scale, shift, out, channels, normalise, eps, block, num_warps=4
    )
    return out
