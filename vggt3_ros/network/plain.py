"""A literal implementation of the same formulas: all images at once, one operation after the
other, nothing fused, chunked or reused.

It has two uses: as an independent reference for tests of the fast path, and as the baseline of
``vggt3 benchmark network``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .aggregator import Aggregator
from .blocks import Attention, Block, LayerScale, typed
from .encoder import ConvolutionEncoder, Encoder
from .fast_weights import NEWTON_SCHULZ
from .global_blocks import FastWeightAttention, FastWeightBlock, SoftmaxBlock
from .layout import TokenLayout
from .progress import Progress
from .scratch import Scratch
from .vggt3 import Vggt3


@torch.inference_mode()
def plain_map(
    network: Vggt3, images: Tensor, inner_steps: int | None = None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return pose encodings [N, 9], fast weights [layers, 3, heads, d, m] or None, and the last
    layer's tokens [N, tokens, 2 * channels].
    """
    trunk, config = network.aggregator, network.config
    layout = trunk.layout(*images.shape[-2:])
    x = _embed(trunk, images.to(network.dtype), layout)
    steps = inner_steps or config.steps_for(len(images))
    settled = []
    frame_blocks = typed(trunk.frame_blocks, Block)
    for frame_block, global_block in zip(frame_blocks, trunk.global_blocks, strict=True):
        assert isinstance(global_block, FastWeightBlock | SoftmaxBlock)
        x = frame = _add_mlp(
            frame_block,
            x
            + _scaled(frame_block.ls1, _attention(frame_block.attn, frame_block.norm1(x), layout)),
        )
        normed = global_block.norm1(x)
        if isinstance(global_block, FastWeightBlock):
            update, weights = _fast_attention(global_block.attn, normed, layout, steps)
            settled.append(torch.stack((weights[0], weights[1].transpose(-1, -2), weights[2])))
        else:
            joined = normed.reshape(1, -1, config.embed_dim)
            update = _attention(global_block.attn, joined, layout, images=len(images)).view(
                x.shape
            )
        x = _add_mlp(global_block, x + _scaled(global_block.ls1, update))
    last = torch.cat((frame, x), dim=-1)
    head_scratch = Scratch(network.device, network.camera_head.embed_pose.weight.dtype)
    encoding = network.camera_head(last[:, 0], head_scratch, Progress())
    return encoding, torch.stack(settled) if settled else None, last


def _embed(trunk: Aggregator, images: Tensor, layout: TokenLayout) -> Tensor:
    mean, std = images.new_tensor((0.485, 0.456, 0.406)), images.new_tensor((0.229, 0.224, 0.225))
    patches = _encode(
        trunk.patch_embed, (images - mean[:, None, None]) / std[:, None, None], layout
    )
    special = torch.cat((trunk.camera_token, trunk.register_token), dim=2)[0]
    special = special[torch.tensor([0] + [1] * (len(images) - 1), device=images.device)]
    return torch.cat((special, patches), dim=1)


def _encode(encoder: Encoder | ConvolutionEncoder, images: Tensor, layout: TokenLayout) -> Tensor:
    if isinstance(encoder, ConvolutionEncoder):
        rows, columns = encoder.proj.kernel_size
        # [n, patches, 3 * size * size], channel by channel
        pixels = F.unfold(images, (rows, columns), stride=(rows, columns)).transpose(1, 2)
        assert encoder.proj.bias is not None
        return pixels @ encoder.proj.weight.flatten(1).t() + encoder.proj.bias
    patches = encoder.patch_embed(images)
    x = torch.cat((encoder.cls_token.expand(len(images), -1, -1), patches), dim=1)
    x = x + torch.cat((encoder.pos_embed[:, :1], layout.positions), dim=1)
    x = torch.cat((x[:, :1], encoder.register_tokens.expand(len(images), -1, -1), x[:, 1:]), dim=1)
    for block in typed(encoder.blocks, Block):
        x = _add_mlp(block, x + _scaled(block.ls1, _attention(block.attn, block.norm1(x), None)))
    normed: Tensor = encoder.norm(x)
    return normed[:, 1 + encoder.register_tokens.shape[1] :]


def _scaled(scale: LayerScale, x: Tensor) -> Tensor:
    return x * scale.gamma


def _add_mlp(block: Block | FastWeightBlock, x: Tensor) -> Tensor:
    hidden = F.gelu(block.mlp.fc1(block.norm2(x)))
    return x + _scaled(block.ls2, block.mlp.fc2(hidden))


def _attention(
    attention: Attention, x: Tensor, layout: TokenLayout | None, images: int = 1
) -> Tensor:
    """Return the softmax attention of [sequences, tokens, channels]; a sequence may be ``images``
    images concatenated.
    """
    heads = attention.num_heads
    q, k, v = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in attention.qkv(x).chunk(3, dim=-1)
    )
    if attention.normalise_qk:
        q, k = attention.q_norm(q), attention.k_norm(k)
    if layout is not None:
        q, k = _rotate(q, layout, images), _rotate(k, layout, images)
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
    projected: Tensor = attention.proj((weights @ v).transpose(1, 2).flatten(-2))
    return projected


def _rotate(x: Tensor, layout: TokenLayout, images: int = 1) -> Tensor:
    """Apply the rotary position to [sequences, heads, tokens, d]: (a, b) -> (a cos - b sin, b cos
    + a sin) on each axis.
    """
    cos, sin = (table[:, 0].repeat(images, 1) for table in (layout.rotary.cos, layout.rotary.sin))
    axes = []
    for part, c, s in zip(
        x.chunk(2, dim=-1), cos.chunk(2, dim=-1), sin.chunk(2, dim=-1), strict=True
    ):
        a, b = part.chunk(2, dim=-1)
        axes.append(part * c + torch.cat((b, a), dim=-1) * s)
    return torch.cat(axes, dim=-1)


def _fast_attention(
    attention: FastWeightAttention, x: Tensor, layout: TokenLayout, steps: int
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Update the fast weights on x [images, tokens, channels], then read them out. Return the
    update of the stream and (w0, w1, w2).
    """
    heads, images = attention.num_heads, len(x)
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    special, patches = v[:, : layout.special_tokens], v[:, layout.special_tokens :]
    grid = patches.transpose(1, 2).unflatten(-1, layout.grid)
    v = torch.cat((special, attention.value_convolution(grid).flatten(2).transpose(1, 2)), dim=1)
    q, k, v = (
        F.silu(part).unflatten(-1, (heads, -1)).permute(2, 0, 1, 3).flatten(1, 2)
        for part in (q, k, v)
    )
    # [heads, images * tokens, d]
    q, k = (_rotate(part[None], layout, images)[0] for part in (q, k))
    q, k = (part / (part.norm(dim=-1, keepdim=True) + 1e-5) for part in (q, k))
    rates = (
        F.softplus(attention.lr_fc(x) + attention.rate_offset)
        .flatten(0, 1)
        .t()
        .view(3, heads, -1, 1)
    )

    weights = [attention.w0.to(x.dtype), attention.w1.to(x.dtype), attention.w2.to(x.dtype)]
    norms = [w.norm(dim=1, keepdim=True) for w in weights]
    for _ in range(steps):
        w0, w1, w2 = weights
        g, h, back = k @ w0, k @ w2, v @ w1.transpose(1, 2)
        sigmoid = g.sigmoid()
        silu = g * sigmoid
        slope = sigmoid * (1 + g * (1 - sigmoid))
        gradients = [
            (k * rates[0]).transpose(1, 2) @ (back * h * slope),
            (silu * h * rates[1]).transpose(1, 2) @ v,
            (k * rates[2]).transpose(1, 2) @ (back * silu),
        ]
        moved = [
            w + _newton_schulz(g, attention.newton_schulz_steps)
            for w, g in zip(weights, gradients, strict=True)
        ]
        weights = [
            w / (w.norm(dim=1, keepdim=True) + 1e-5) * norm
            for w, norm in zip(moved, norms, strict=True)
        ]
    w0, w1, w2 = weights
    answers = (F.silu(q @ w0) * (q @ w2)) @ w1
    answers = answers.view(heads, *x.shape[:2], -1).permute(1, 2, 0, 3).flatten(2)
    return attention.proj(answers), (w0.float(), w1.float(), w2.float())


def _newton_schulz(gradient: Tensor, steps: int) -> Tensor:
    a, b, c = NEWTON_SCHULZ
    x: Tensor = gradient.transpose(1, 2) if gradient.shape[1] > gradient.shape[2] else gradient
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if gradient.shape[1] > gradient.shape[2] else x
