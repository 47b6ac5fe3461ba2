"""What only a GPU can show. Skipped where there is none."""

import copy
import dataclasses

import pytest
import torch
from folders import DATA
from tiny_network import random_images, relative, tiny_network

from vggt3_ros.network.compiled import compile_blocks
from vggt3_ros.network.parity import run_case
from vggt3_ros.network.token_store import Placement

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.fixture
def on_gpu():
    return copy.deepcopy(tiny_network()).cuda()


@pytest.mark.parametrize("kind", ["ttt", "softmax"])
def test_parity_in_float32(kind):
    errors = run_case(DATA / f"vits_d4_{kind}_s3_70x98.npz", device="cuda").relative_error
    assert max(errors.values()) < 1e-4, errors


def test_bfloat16_stays_close_to_float32(on_gpu):
    images = random_images(4)
    expected, _ = on_gpu.map(images, depth_frames=[1])
    on_gpu.aggregator.to(torch.bfloat16)
    narrow, _ = on_gpu.map(images, depth_frames=[1])
    assert relative(narrow.pose_encoding, expected.pose_encoding) < 0.1
    assert relative(narrow.depth.values, expected.depth.values) < 0.1


@pytest.mark.parametrize("placement", [Placement.HOST, Placement.DISK])
def test_offloading_is_exact(on_gpu, placement):
    images = random_images(5)
    plan = dataclasses.replace(on_gpu.plan(5, images.shape[-2:], 5), chunk_images=2)
    offloaded = dataclasses.replace(
        plan, tokens=placement, projections=placement, keep_associations=False
    )
    (expected, _), (result, _) = (
        on_gpu.map(images, depth_frames=range(5), plan=p) for p in (plan, offloaded)
    )
    assert relative(result.pose_encoding, expected.pose_encoding) < 1e-5
    assert relative(result.depth.values, expected.depth.values) < 1e-5


def test_device_memory_beyond_weights_is_flat(on_gpu):
    images = random_images(64)
    plan = dataclasses.replace(
        on_gpu.plan(64, images.shape[-2:]),
        chunk_images=4,
        tokens=Placement.HOST,
        keep_associations=False,
    )
    peaks = []
    for count in (8, 64):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        on_gpu.map(images[:count], plan=plan)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    # the camera tokens of 56 more images
    assert peaks[1] < peaks[0] + 56 * 24 * 2 * 384 * 4 + (1 << 20)


def test_a_real_out_of_memory_is_survived(on_gpu):
    images = random_images(64, (126, 126))
    expected, _ = on_gpu.map(images)
    plan = dataclasses.replace(on_gpu.plan(64, (126, 126)), chunk_images=64)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_allocated() + plan.work_bytes // 3
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        result, _ = on_gpu.map(images, plan=plan)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert relative(result.pose_encoding, expected.pose_encoding) < 1e-4


def test_compiled_blocks_give_the_same(on_gpu):
    images = random_images(4)
    expected, _ = on_gpu.map(images)
    result, _ = compile_blocks(on_gpu).map(images)
    assert relative(result.pose_encoding, expected.pose_encoding) < 1e-4
