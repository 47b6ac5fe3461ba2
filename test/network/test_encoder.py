"""Patch encoders: tokens by definition, for any grid, image by image."""

import numpy as np
import pytest
import torch
from tiny_network import (
    SIZE,
    filled_network,
    one_thread,  # noqa: F401
    random_images,
    relative,
    tiny_config,
    tiny_network,
)

from vggt3_ros.network.encoder import ConvolutionEncoder, Encoder, make_encoder
from vggt3_ros.network.parity import fill
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.scratch import Scratch

GRID = (SIZE[0] // 14, SIZE[1] // 14)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def encode(encoder, images, progress=None):
    scratch = Scratch(images.device, torch.float32)
    return encoder(images, encoder.patch_positions(GRID), scratch, progress or Progress()).clone()


def convolution():
    encoder = ConvolutionEncoder(tiny_config(encoder="conv")).requires_grad_(False)
    for name, parameter in encoder.named_parameters():
        parameter.data = torch.from_numpy(np.array(fill(name, tuple(parameter.shape))))
    return encoder


def test_the_native_grid_uses_the_position_embedding_as_stored():
    encoder = filled_network(tiny_config()).aggregator.patch_embed
    assert torch.equal(encoder.patch_positions((37, 37)), encoder.pos_embed[:, 1:])
    assert encoder.patch_positions((37, 36)).shape == (1, 37 * 36, 384)


@pytest.mark.parametrize(
    "encoder", [tiny_network().aggregator.patch_embed, convolution()], ids=["vit", "conv"]
)
def test_images_do_not_see_each_other(encoder):
    images = random_images(3)
    together = encode(encoder, images)
    assert together.shape == (3, GRID[0] * GRID[1], 384)
    assert relative(together[2:], encode(encoder, images[2:])) < 1e-5


def test_a_convolved_token_is_a_linear_map_of_its_standardised_patch():
    encoder, images = convolution(), random_images(1)
    tokens = encode(encoder, images)[0].unflatten(0, GRID)
    patch = images[0, :, 14:28, 28:42].double().numpy()  # row 1, column 2
    patch = (patch - MEAN[:, None, None]) / STD[:, None, None]
    weight, bias = encoder.proj.weight.double().numpy(), encoder.proj.bias.double().numpy()
    expected = np.tensordot(weight, patch, axes=3) + bias
    np.testing.assert_allclose(tokens[1, 2].numpy(), expected, atol=1e-4)


def test_a_transformer_reports_every_block():
    reports = []
    progress = Progress(lambda fraction, stage: reports.append((fraction, stage)))
    progress.start(2 * 12)
    encode(tiny_network().aggregator.patch_embed, random_images(2), progress)
    assert len(reports) == 12 and reports[-1] == (1.0, "encoder")


def test_the_configuration_names_the_encoder():
    with torch.device("meta"):
        assert isinstance(make_encoder(tiny_config(encoder="conv")), ConvolutionEncoder)
        assert isinstance(make_encoder(tiny_config()), Encoder)
