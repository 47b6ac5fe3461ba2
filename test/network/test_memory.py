"""Chunks and offloading change nothing but memory, and memory stays within the plan."""

import dataclasses

import pytest
import torch
from tiny_network import (
    SIZE,
    LiveMemory,
    random_images,
    relative,
    tiny_config,
    tiny_network,
)

from vggt3_ros.network import map_pass
from vggt3_ros.network.heads import camera
from vggt3_ros.network.memory_plan import NotEnoughMemory, PassShape, plan_pass
from vggt3_ros.network.scratch import Scratch
from vggt3_ros.network.token_store import DiskStore, Placement
from vggt3_ros.network.values import SceneState

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
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


@pytest.mark.parametrize("attention", ["ttt", "softmax"])
def test_out_of_memory_halves_the_plan_and_tries_again(monkeypatch, attention):
    network = tiny_network(attention)
    images = random_images(5)
    expected, _ = network.map(images)
    chunk_sizes = []
    load = map_pass.load_images

    def limited(images, part, device, dtype):
        chunk_sizes.append(part.stop - part.start)
        if chunk_sizes[-1] > 1:
            raise torch.OutOfMemoryError("no room for two")
        return load(images, part, device, dtype)

    monkeypatch.setattr(map_pass, "load_images", limited)
    result, _ = network.map(images)
    assert chunk_sizes == [5, 2, 1, 1, 1, 1, 1]
    assert relative(result.pose_encoding, expected.pose_encoding) < 1e-5


def test_out_of_memory_with_the_smallest_plan_is_an_error_with_the_numbers(monkeypatch):
    network = tiny_network()

    def never(*_):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        )

    monkeypatch.setattr(map_pass, "load_images", never)
    with pytest.raises(NotEnoughMemory, match="1 images at once.*tokens on disk.*recomputed"):
        network.map(random_images(3))


def test_another_error_is_not_taken_for_memory(monkeypatch):
    def broken(*_):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(map_pass, "load_images", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        tiny_network().map(random_images(2))


def peak_bytes(network, count, plan, **options):
    """Peak of tensor memory allocated by map(), over what it returns."""
    images = random_images(count)
    network.map(images[:1])  # whatever torch sets up once
    with LiveMemory() as memory:
        predictions, scene = network.map(images, plan=plan, **options)
    del predictions, scene
    return memory.peak


@pytest.mark.parametrize("dense", [(), ("depth", "points")])
def test_memory_beyond_the_outputs_does_not_grow_with_the_images(dense):
    network = tiny_network()
    plan = network.plan(4, SIZE, 4, dense)
    plan = dataclasses.replace(
        plan,
        chunk_images=2,
        decode_images=1,
        tokens=Placement.DISK,
        projections=Placement.DISK,
        keep_associations=False,
    )
    # outputs and camera tokens
    per_image = 4 * (9 + 2 * 384 * 2) + (4 * SIZE[0] * SIZE[1] * (2 + 4) if dense else 0)
    few, many = (
        peak_bytes(network, count, plan, depth_frames=range(count if dense else 0), dense=dense)
        for count in (4, 16)
    )
    # What the camera head needs for its tokens grows too: 10 buffers of 2 x 384 and the MLP's
    # hidden layer.
    camera_head = 12 * 4 * 20 * 2 * 384
    assert few > 2 * 17 * 384 * 4 * 10  # the meter sees the ten or more buffers of a chunk of two
    assert many - few <= 12 * per_image * 1.05 + camera_head, (few, many)


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("dense", [(), ("depth", "points")])
@pytest.mark.parametrize("attention", ["ttt", "softmax"])
def test_the_plan_bounds_the_memory_of_the_pass(attention, dense, count):
    network = tiny_network(attention)
    size = (112, 140)
    frames = range(count if dense else 0)
    plan = network.plan(count, size, len(frames), dense)
    images = random_images(count, size)
    with LiveMemory() as memory:
        network.map(images, depth_frames=frames, dense=dense, plan=plan)
    outputs = len(frames) * size[0] * size[1] * 4 * 6
    print(f"peak {memory.peak}, planned {plan.work_bytes} + {plan.stored_bytes}")
    assert memory.peak <= plan.work_bytes + plan.stored_bytes + outputs, (memory.peak, plan)


def full_size(count, dense_frames=0, dense_heads=0, dtype=torch.bfloat16, attention="ttt"):
    config = tiny_config(
        attention, encoder="dinov2_vitl14_reg", embed_dim=1024, depth=24, num_heads=16, tapped_layers=(4, 11, 17, 23),
        dense_features=256, dense_channels=(256, 512, 1024, 1024), camera_depth=4,
    )  # fmt: skip
    return PassShape(config, count, 518, 392, dtype, torch.float32, dense_heads, dense_frames)


def test_a_large_gpu_keeps_a_thousand_images_on_the_device():
    plan = plan_pass(full_size(1000), CUDA, 70 << 30, 200 << 30)
    assert plan.tokens is Placement.DEVICE and plan.keep_associations and plan.chunk_images > 8
    assert plan.work_bytes + plan.stored_bytes < 70 << 30


def test_what_does_not_fit_the_device_goes_to_host_memory_and_then_to_disk():
    small = 10 << 30
    host = plan_pass(full_size(4000, 4000, 1), CUDA, small, 400 << 30)
    assert (host.tokens, host.projections, host.keep_associations) == (
        Placement.HOST,
        Placement.HOST,
        False,
    )
    disk = plan_pass(full_size(4000), CUDA, small, 2 << 30)
    assert disk.tokens is Placement.DISK
    assert plan_pass(full_size(4000), CPU, 4 << 30, 4 << 30).tokens is Placement.DISK


def test_less_memory_never_means_larger_chunks():
    plans = [
        plan_pass(full_size(100, 100, 2), CUDA, gib << 30, 400 << 30)
        for gib in (70, 40, 20, 12, 8)
    ]
    sizes = [plan.chunk_images for plan in plans]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1] >= 1
    assert all(plan.work_bytes + plan.stored_bytes <= plan.free_bytes for plan in plans)


@pytest.mark.parametrize("shape", [full_size(1), full_size(3000, attention="softmax")])
def test_a_pass_that_cannot_fit_is_refused_before_it_starts(shape):
    with pytest.raises(NotEnoughMemory, match="518|392"):
        plan_pass(shape, CUDA, 1 << 30, 8 << 30)


def test_the_disk_store_gives_back_what_was_written():
    rows = torch.randn(7, 3, 5).to(torch.bfloat16)
    store = DiskStore((7, 3, 5), torch.bfloat16, "test")
    store.write(slice(4, 7), rows[4:])
    store.write(slice(0, 4), rows[:4])
    assert torch.equal(store.read(slice(2, 6), Scratch(CPU, torch.bfloat16)), rows[2:6])
