"""Small filled networks and a meter of live tensor memory, for the tests of the network."""

import weakref
from functools import lru_cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vggt3_ros.network.config import GlobalAttention, NetworkConfig
from vggt3_ros.network.parity import fill
from vggt3_ros.network.vggt3 import Vggt3

SIZE = (42, 56)  # pixels: a 3x4 patch grid


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These tensors are too small to share out; a busy machine makes every hand-over between
    threads cost milliseconds.

    Import it to use it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_config(attention="ttt", **changes):
    fields = {
        "attention": GlobalAttention(attention), "encoder": "dinov2_vits14_reg", "embed_dim": 384, "depth": 3, "num_heads": 6,
        "tapped_layers": (0, 1, 1, 2), "dense_features": 16, "dense_channels": (16, 24, 32, 32), "camera_depth": 1,
    }  # fmt: skip
    return NetworkConfig(**{**fields, **changes})


remembered_fill = lru_cache(maxsize=None)(fill)  # most entries are common to all configurations


def filled_network(config):
    network = Vggt3(config)
    weights = {
        name: torch.from_numpy(remembered_fill(name, tuple(t.shape)))
        for name, t in network.state_dict().items()
    }
    network.load_state_dict(weights)
    return network


@lru_cache
def tiny_network(attention="ttt"):
    """Shared between tests: a network is never changed by map() or query()."""
    return filled_network(tiny_config(attention))


def random_images(count, size=SIZE, seed=0):
    """Smooth random images [count, 3, H, W] in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def relative(ours, reference):
    """Largest difference over the largest value."""
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


class LiveMemory(TorchDispatchMode):
    """Bytes of tensor memory alive that was allocated inside the block, and their peak."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known_before = {t.untyped_storage()._cdata for t in args if isinstance(t, torch.Tensor)}
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage(), known_before)
        return result

    def _watch(self, storage, inputs):
        key = storage._cdata
        if key in self._known or key in inputs:
            return
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)

        def forget(_):
            self._known.pop(key, None)
            self.live -= size

        self._known[key] = weakref.ref(storage, forget)
