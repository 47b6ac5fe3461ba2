"""Which functions of a network are compiled. That they give the same is tested on a GPU."""

import pytest
import torch
from tiny_network import tiny_config

from vggt3_ros.network.compiled import compile_blocks
from vggt3_ros.network.vggt3 import Vggt3


@pytest.fixture
def compiled(monkeypatch):
    """Functions that were given to torch.compile; nothing is compiled."""
    found = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: found.append(function) or function)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **_: found.append(type(module).forward)
    )
    return found


@pytest.mark.parametrize("encoder, encoder_blocks", [("dinov2_vits14_reg", 12), ("conv", 0)])
@pytest.mark.parametrize("attention, global_functions", [("ttt", 2), ("softmax", 0)])
def test_every_kind_of_network_can_be_compiled(
    compiled, encoder, encoder_blocks, attention, global_functions
):
    with torch.device("meta"):
        network = Vggt3(tiny_config(attention, encoder=encoder))
    assert compile_blocks(network) is network
    names = [function.__name__ for function in compiled]
    assert names.count("forward") == encoder_blocks + 3  # and the frame blocks
    assert len(names) - names.count("forward") == 3 * global_functions
    assert set(names) - {"forward"} == ({"finish", "associations"} if global_functions else set())
