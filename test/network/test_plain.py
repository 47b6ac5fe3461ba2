"""The fast path equals the literal implementation of the formulas."""

import pytest
import torch
from tiny_network import (
    filled_network,
    one_thread,  # noqa: F401
    random_images,
    relative,
    tiny_config,
)

from vggt3_ros.network.plain import plain_map


@pytest.mark.parametrize("attention", ["ttt", "softmax"])
@pytest.mark.parametrize(
    "size, changes",
    [
        ((98, 42), {}),  # upright
        (
            (28, 70),
            {"num_heads": 12, "mlp_ratio": 2.0, "fast_hidden_ratio": 2, "num_register_tokens": 2},
        ),
        (
            (56, 56),
            {"inner_steps": 3, "newton_schulz_steps": 3, "base_rate": 0.1, "rope_base": 10.0},
        ),
        # a single patch
        ((14, 14), {"image_size": 224, "camera_iterations": 2, "camera_heads": 8}),
    ],
)
def test_any_configuration_and_size_agrees_with_the_plain_formulas(attention, size, changes):
    network = filled_network(tiny_config(attention, **changes))
    images = random_images(2, size)
    layers = {}

    def keep(layer, part, frame, joined):
        layers.setdefault(layer, []).append(torch.cat((frame, joined), dim=-1))

    predictions, scene = network.map(images, observers=[keep])
    pose_encoding, fast_weights, last_tokens = plain_map(network, images)
    assert relative(predictions.pose_encoding, pose_encoding) < 2e-5
    assert relative(torch.cat(layers[network.config.depth - 1]), last_tokens) < 2e-5
    if scene is not None:
        assert relative(scene.fast_weights, fast_weights) < 1e-4
