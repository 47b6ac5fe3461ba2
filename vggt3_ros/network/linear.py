"""Linear layers by the fastest exact product of the device.

On a CPU that is oneDNN's inner product, which torch.compile uses too: torch's own addmm takes MKL
in float32, which leaves the wide vectors of other makers' CPUs idle (2.2 times slower on an AMD
EPYC), and in bfloat16 cannot have the GELU in the product.
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
    """x [..., inputs] weight^T + bias, then GELU if asked for: [..., outputs], the caller's until
    it takes ``name`` again.
    """
    if uses_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(
            x, weight, bias, "gelu" if gelu else "none", [], "none"
        )
    out = scratch.take(name, *x.shape[:-1], weight.shape[0])
    rows = out.view(-1, weight.shape[0])
    if gelu and fused.usable(x):
        # cuBLASLt has the GELU in the product, by its tanh formula: 5e-4 off at most, less than
        # the rounding that it saves.
        torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True, out=rows)
        return out
    torch.addmm(bias, x.flatten(0, -2), weight.t(), out=rows)
    return torch.ops.aten.gelu.out(out, out=out) if gelu else out


def uses_onednn(x: Tensor) -> bool:
    """Whether products of x go through oneDNN here; torch.compile chooses its own."""
    return not torch.compiler.is_compiling() and has_onednn(x.device.type, x.dtype)


@lru_cache
def has_onednn(device_type: str, dtype: torch.dtype) -> bool:
    """Whether torch's oneDNN products work here in this dtype; they are no public interface, so
    they are tried.
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
        # another torch, or a CPU that cannot
        return False
    expected = F.gelu(F.linear(x.float(), weight.float(), bias.float()))
    return torch.allclose(
        ours.float(), expected, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
    )
