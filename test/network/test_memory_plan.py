"""Memory stays within the plan, and the plan within what is free."""

import dataclasses

import pytest
import torch
from tiny_network import (
    SIZE,
    LiveMemory,
    random_images,
    tiny_config,
    tiny_network,
)

from vggt3_ros.network.memory_plan import NotEnoughMemory, PassShape, plan_pass
from vggt3_ros.network.token_store import Placement

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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
