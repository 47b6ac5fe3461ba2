"""Linear layers by the fastest exact matrix product of the device.

On a CPU that is oneDNN's inner product, which torch.compile also uses. torch's own addmm uses MKL
for float32, which does not use the wide vector units of non-Intel CPUs (2.2 times slower on an AMD
EPYC), and for bfloat16 it cannot fuse the GELU into the product.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fused
from .scratch import Scratch


def linear(
    x: Tensor, weight: Tensor, bias: Tensor, scratch: Scratch, name: str, gelu: bool = False
) -> Tensor:
    """Return x weight^T + bias, followed by GELU if ``gelu``: x [..., inputs] -> [..., outputs].

    The result is valid until the buffer ``name`` is taken from ``scratch`` again.
    """
    if uses_onednn(x):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, weight, bias, "gelu" if gelu else "none", [], "none"
        )
        return product
    out = scratch.take(name, *x.shape[:-1], weight.shape[0])
    rows = out.view(-1, weight.shape[0])
    if gelu and fused.usable(x):
        # cuBLASLt fuses the GELU into the product with its tanh approximation. The error is at
        # most 5e-4, which is less than the rounding that the fusion saves.
        torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True, out=rows)
        return out
    torch.addmm(bias, x.flatten(0, -2), weight.t(), out=rows)
    return torch.ops.aten.gelu.out(out, out=out) if gelu else out


def uses_onednn(x: Tensor) -> bool:
    """Whether products of x use oneDNN here. False inside torch.compile, which makes its own
    choice.
    """
    return not torch.compiler.is_compiling() and has_onednn(x.device.type, x.dtype)


@lru_cache
def has_onednn(device_type: str, dtype: torch.dtype) -> bool:
    """Whether torch's oneDNN products work here with this dtype. They are not a public interface,
    so one is tried.
    """
    if device_type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    x = torch.linspace(-2, 2, 3 * 5).view(3, 5).to(dtype)
    weight, bias = (
        torch.linspace(-1, 1, 7 * 5).view(7, 5).to(dtype),
        torch.linspace(0, 1, 7).to(dtype),
    )
    try:
        ours = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        # a different torch version, or an unsupported CPU
        return False
    expected = F.gelu(F.linear(x.float(), weight.float(), bias.float()))
    return torch.allclose(
        ours.float(), expected, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
    )
