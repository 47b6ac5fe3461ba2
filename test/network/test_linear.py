"""Linear layers agree with double precision by either library, whatever the layout of the
input.
"""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from tiny_network import one_thread, relative, tiny_network  # noqa: F401

from vggt3_ros.network import linear as linear_module
from vggt3_ros.network.linear import linear
from vggt3_ros.network.scratch import Scratch

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float64: 1e-14}


@pytest.fixture(params=["oneDNN", "torch"])
def library(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(linear_module, "has_onednn", lambda device_type, dtype: False)
    elif not linear_module.has_onednn("cpu", torch.float32):
        pytest.skip("torch has no oneDNN products on this CPU")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("cut", [slice(None), slice(7, 40)])
def test_agrees_with_double_precision(library, dtype, gelu, cut):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=generator).to(dtype)
        for shape in ((3, 11, 40), (50, 40), (50,))
    )
    x, weight = x[..., cut], weight[:, cut].contiguous()
    expected = F.linear(x.double(), weight.double(), bias.double())
    ours = linear(x, weight, bias, Scratch(torch.device("cpu"), dtype), "out", gelu)
    assert ours.dtype == dtype
    assert relative(ours, F.gelu(expected) if gelu else expected) < TOLERANCE[dtype]


def test_rows_of_a_weight_serve_as_a_layer_of_their_own(library):
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((2, 5, 16), (48, 16), (48,))
    )
    scratch = Scratch(torch.device("cpu"), torch.float32)
    whole = linear(x, weight, bias, scratch, "whole")
    assert relative(linear(x, weight[16:], bias[16:], scratch, "part"), whole[..., 16:]) < 1e-6


def test_a_missing_operator_leaves_torchs_own_product(monkeypatch):
    class Without:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, "mkldnn", Without())
    linear_module.has_onednn.cache_clear()
    try:
        assert not linear_module.has_onednn("cpu", torch.float32)
    finally:
        linear_module.has_onednn.cache_clear()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_block_computes_the_same():
    block = copy.deepcopy(tiny_network().aggregator.patch_embed.blocks[0])
    x = torch.randn(2, 9, 384, generator=torch.Generator().manual_seed(2))

    @torch.inference_mode()
    def advanced():
        return block(x.clone(), None, Scratch(x.device, x.dtype)).clone()

    expected = advanced()
    block.compile(dynamic=True)
    assert relative(advanced(), expected) < 1e-5
