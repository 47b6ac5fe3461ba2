"""The dense heads beside the running trunk: which images, from which layers, in any chunks."""

import pytest
import torch
from tiny_network import SIZE, one_thread, relative, tiny_network  # noqa: F401

from vggt3_ros.network.heads.dense import depth_and_confidence
from vggt3_ros.network.heads.streaming import DECODE_COST, DenseStream
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.token_store import Placement

IMAGES, TOKENS, LAYERS = 5, 17, 3  # the tapped layers are 0, 1, 1 and 2


def outputs(generator_seed=0):
    """Frame and global outputs of every layer [layers, images, tokens, channels]."""
    generator = torch.Generator().manual_seed(generator_seed)
    return torch.randn(2, LAYERS, IMAGES, TOKENS, 384, generator=generator)


def run(frames, chunk=IMAGES, decode=IMAGES, placement=Placement.DEVICE, progress=None, made=None):
    network = tiny_network()
    stream = DenseStream(
        "depth",
        network.depth_head,
        depth_and_confidence,
        frames,
        network.config,
        network.aggregator.layout(*SIZE),
        placement,
        decode,
        progress or Progress(),
    )
    frame, joined = outputs() if made is None else made
    for layer in range(LAYERS):
        for first in range(0, IMAGES, chunk):
            part = slice(first, min(first + chunk, IMAGES))
            stream.observe(layer, part, frame[layer, part], joined[layer, part])
    return stream.output()


@pytest.mark.parametrize("chunk, decode", [(1, 1), (2, 3), (5, 2)])
@pytest.mark.parametrize("placement", [Placement.DEVICE, Placement.DISK])
def test_chunks_and_placement_change_nothing(chunk, decode, placement):
    whole = run(range(IMAGES))
    assert whole[0].shape == (IMAGES, *SIZE) and (whole[1] > 1).all()
    for ours, expected in zip(run(range(IMAGES), chunk, decode, placement), whole, strict=True):
        assert relative(ours, expected) < 1e-5


@pytest.mark.parametrize("frames", [(0,), (4,), (1, 3), (0, 2, 4)])
def test_only_the_wanted_images_are_decoded(frames):
    values, confidence = run(frames, chunk=2)
    assert len(values) == len(confidence) == len(frames)
    assert relative(values, run(range(IMAGES))[0][list(frames)]) < 1e-5


@pytest.mark.parametrize("layer", range(LAYERS))
def test_every_tapped_layer_matters(layer):
    made = outputs()
    made[0, layer] += torch.randn(IMAGES, TOKENS, 384, generator=torch.Generator().manual_seed(9))
    assert relative(run((2,), made=made)[0], run((2,))[0]) > 1e-3


def test_special_tokens_are_not_decoded():
    made = outputs()
    made[:, :, :, :5] = 100.0
    assert torch.equal(run((2,), made=made)[0], run((2,))[0])


def test_progress_counts_the_decoded_images():
    reports = []
    progress = Progress(lambda fraction, stage: reports.append((fraction, stage)))
    progress.start(3 * DECODE_COST)
    run((0, 1, 4), decode=2, progress=progress)
    assert reports == [(pytest.approx(2 / 3), "dense heads"), (1.0, "dense heads")]
