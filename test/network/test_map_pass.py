"""One pass over all images: the result does not depend on chunks, placement or loading."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_network import (
    SIZE,
    one_thread,  # noqa: F401
    random_images,
    relative,
    tiny_network,
)

from vggt3_ros.network.heads import camera
from vggt3_ros.network.map_pass import chunks, load_images
from vggt3_ros.network.token_store import Placement
from vggt3_ros.network.values import SceneState

ALL = {"depth_frames": range(5), "dense": ("depth", "points")}


def flatten(predictions, scene):
    values = {
        "pose": predictions.pose_encoding,
        "depth": predictions.depth.values,
        "depth confidence": predictions.depth.confidence,
        "points": predictions.points.values,
        "points confidence": predictions.points.confidence,
    }
    if isinstance(scene, SceneState):
        values |= {"fast weights": scene.fast_weights, "camera tokens": scene.camera_tokens}
    return values


@pytest.fixture(scope="module", params=["ttt", "softmax"])
def at_once(request):
    network = tiny_network(request.param)
    plan = network.plan(5, SIZE, 5, ALL["dense"])
    plan = dataclasses.replace(plan, chunk_images=5, decode_images=5)
    return network, plan, flatten(*network.map(random_images(5), plan=plan, **ALL))


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_images": 1, "decode_images": 1},
        {"chunk_images": 2, "decode_images": 3},
        {
            "chunk_images": 3,
            "decode_images": 2,
            "tokens": Placement.DISK,
            "projections": Placement.DISK,
        },
        {"chunk_images": 2, "keep_associations": False},
    ],
    ids=lambda changes: " ".join(
        f"{name}={getattr(value, 'value', value)}" for name, value in changes.items()
    ),
)
def test_chunks_and_offloading_are_exact(at_once, changes):
    network, plan, expected = at_once
    result = flatten(
        *network.map(random_images(5), plan=dataclasses.replace(plan, **changes), **ALL)
    )
    errors = {name: relative(result[name], expected[name]) for name in expected}
    assert max(errors.values()) < 1e-5, errors


def test_the_camera_head_in_chunks_is_exact(at_once, monkeypatch):
    network, plan, expected = at_once
    monkeypatch.setitem(camera._ROWS, "cpu", 2)
    assert (
        relative(network.map(random_images(5), plan=plan)[0].pose_encoding, expected["pose"])
        < 1e-5
    )


def test_depth_is_computed_for_the_asked_frames_only(at_once):
    network, plan, expected = at_once
    plan = dataclasses.replace(plan, chunk_images=2)
    predictions, _ = network.map(random_images(5), depth_frames=[4, 1], plan=plan)
    assert predictions.points is None and predictions.depth.frames == (1, 4)
    assert relative(predictions.depth.values, expected["depth"][[1, 4]]) < 1e-5


def test_images_may_be_loaded_as_they_are_needed_and_as_bytes():
    network = tiny_network()
    pixels = (random_images(5) * 255).round().to(torch.uint8)

    class Loader:
        largest = 0

        def __len__(self):
            return len(pixels)

        def __getitem__(self, part):
            self.largest = max(self.largest, part.stop - part.start)
            return pixels[part].numpy()

    loader = Loader()
    plan = dataclasses.replace(network.plan(5, SIZE), chunk_images=2)
    lazily, _ = network.map(loader, plan=plan)
    eagerly, _ = network.map(pixels.float() / 255)
    assert loader.largest == 2
    assert relative(lazily.pose_encoding, eagerly.pose_encoding) < 1e-5


@pytest.mark.parametrize("count, size", [(0, 3), (1, 3), (6, 3), (7, 3), (2, 100)])
def test_chunks_cover_all_images_in_order(count, size):
    parts = list(chunks(count, size))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    assert all(1 <= part.stop - part.start <= size for part in parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_become_shares_of_one(dtype):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2) * 10
    loaded = load_images(pixels, slice(1, 2), torch.device("cpu"), dtype)
    assert loaded.dtype == dtype and loaded.shape == (1, 3, 2, 2)
    np.testing.assert_allclose(loaded.float().numpy(), pixels[1:] / 255, atol=4e-3)
    floats = torch.rand(2, 3, 2, 2)
    assert torch.equal(
        load_images(floats, slice(0, 1), torch.device("cpu"), torch.float32), floats[:1]
    )


def test_observers_see_every_layer_of_every_image_once():
    network, seen = tiny_network(), []
    plan = dataclasses.replace(network.plan(5, SIZE), chunk_images=2)

    def observe(layer, part, frame, joined):
        assert frame.shape == joined.shape == (part.stop - part.start, 17, 384)
        seen.extend((layer, i) for i in range(part.start, part.stop))

    network.map(random_images(5), plan=plan, observers=[observe])
    assert sorted(seen) == [(layer, i) for layer in range(3) for i in range(5)]
