"""python fused_kernels.py DEVICE DTYPE: every kernel against the formulas in float64, on random
tensors with strides as the network has them.
"""

import sys

import torch

from vggt3_ros.network import fused
from vggt3_ros.network.fast_weights import unstack_weights
from vggt3_ros.network.rope import rotary_table, rotate

TOKENS, HEADS, D, HIDDEN = 150, 3, 64, 256
# of the norm: a few roundings of the operands
WORST = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


def close(name, ours, reference):
    error = float((ours.double() - reference).norm() / reference.norm())
    print(name, error)
    assert error < WORST[ours.dtype if ours.dtype in (torch.float16, torch.bfloat16) else dtype], (
        name,
        error,
    )


device, dtype = torch.device(sys.argv[1]), getattr(torch, sys.argv[2])
torch.manual_seed(0)
dim = HEADS * D
packed = torch.randn(TOKENS, 2 * dim + 3 * HEADS, device=device).to(dtype)
k, v, rates = packed.split((dim, dim, 3 * HEADS), -1)
k, v, rates = (
    k.unflatten(-1, (HEADS, D)),
    v.unflatten(-1, (HEADS, D)),
    rates.unflatten(-1, (3, HEADS)),
)
weights = torch.randn(3, HEADS, D, HIDDEN, device=device) / 8

exact = [w.detach().requires_grad_() for w in unstack_weights(weights.to(dtype).double())]
keys, values = k.double().transpose(0, 1), v.double().transpose(0, 1)
recalled = (torch.nn.functional.silu(keys @ exact[0]) * (keys @ exact[2])) @ exact[1]
agreement = (recalled * values).sum(-1)
gradients = [
    torch.autograd.grad((agreement * rates[:, i].double().T).sum(), exact[i], retain_graph=True)[0]
    for i in range(3)
]
total = torch.ones_like(weights)
fused.add_gradients(total, weights, k, v, rates)
close(
    "gradients", total - 1, torch.stack((gradients[0], gradients[1].transpose(1, 2), gradients[2]))
)

close(
    "read_out",
    fused.read_out(weights, k, torch.empty(TOKENS, HEADS, D, device=device, dtype=dtype)),
    recalled.detach().transpose(0, 1),
)

table = rotary_table((5, 6), 5, D, 100.0, device, torch.float64)
narrow = table.cos.to(dtype), table.sin.to(dtype)
x = torch.randn(2, 35, 3, HEADS, D, device=device).to(dtype)[:, :, 1]
out = torch.empty(2, 35, HEADS, D, device=device, dtype=dtype)
norm = torch.nn.LayerNorm(D, dtype=torch.float64, device=device)
torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
close(
    "norm_rotated",
    fused.norm_rotated(x, *narrow, norm.weight.to(dtype), norm.bias.to(dtype), norm.eps, out),
    rotate(norm(x.double()), table).detach(),
)
silu = torch.nn.functional.silu(x.double())
close(
    "unit_rotated",
    fused.unit_rotated(x, *narrow, 1e-5, out),
    rotate(silu, table) / (silu.norm(dim=-1, keepdim=True) + 1e-5),
)

x, update, gamma = (
    torch.randn(*shape, device=device).to(dtype) for shape in ((2, 7, 96), (2, 7, 96), (96,))
)
norm = torch.nn.LayerNorm(96, dtype=torch.float64, device=device)
torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
added, moved = torch.addcmul(x.double(), update.double(), gamma.double()), x.clone()
normed = fused.add_norm(
    moved, update, gamma, norm.weight.to(dtype), norm.bias.to(dtype), norm.eps, torch.empty_like(x)
)
close("add_norm: stream", moved, added)
close("add_norm: normed", normed, norm(added).detach())
close("add", fused.add(x, update, gamma), added)
