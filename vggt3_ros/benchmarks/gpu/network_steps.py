"""The network on the device: correctness, speed, memory."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from vggt3_ros.benchmarks import network as benchmark
from vggt3_ros.network.compiled import compile_blocks
from vggt3_ros.network.config import GlobalAttention
from vggt3_ros.network.flops import map_flops
from vggt3_ros.network.layout import TokenLayout
from vggt3_ros.network.map_pass import query_pass
from vggt3_ros.network.memory_plan import MemoryPlan
from vggt3_ros.network.parity import run_case
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.scratch import Scratch
from vggt3_ros.network.token_store import Placement
from vggt3_ros.network.vggt3 import Vggt3

ROOT = Path(__file__).parents[3]
CASES = {
    kind: ROOT / "test" / "data" / f"vits_d4_{kind}_s3_70x98.npz" for kind in ("ttt", "softmax")
}
# Largest relative error of an output. bfloat16 has three digits, and errors add up over 60 blocks.
WORST = {torch.float32: 1e-4, torch.bfloat16: 0.1}
PUBLISHED = "54 to 58 s for 1,000 images on an A100 (arXiv 2602.23361)"


def parity(device: torch.device) -> dict[str, Any]:
    """Return the largest relative error against the reference outputs, by kind of attention and
    dtype.
    """
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        errors = {}
        for kind, path in CASES.items():
            for dtype in WORST:
                worst = run_case(path, device, dtype).relative_error
                errors[f"{kind} {str(dtype).removeprefix('torch.')}"] = max(worst.values())
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    passed = all(error < WORST[getattr(torch, name.split()[1])] for name, error in errors.items())
    return {"passed": passed, "relative_error": errors}


def marked_tests(seconds: float) -> dict[str, Any]:
    """Run the tests marked ``gpu`` in a process of their own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        *(str(ROOT / "test" / "network" / f"test_{name}.py") for name in ("gpu", "fused")),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )
    return {"passed": done.returncode == 0, "output": done.stdout[-3000:]}


def products(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Measure the matrix product."""
    return {"tflops": benchmark.matrix_rate(device, dtype) / 1e12, "dtype": str(dtype)}


def maps(
    network: Vggt3,
    size: tuple[int, int],
    counts: Sequence[int],
    product: float,
    deadline: Callable[[], float],
) -> dict[str, Any]:
    """Measure map(), poses only, for each number of images: seconds, share of the matrix product
    (operations per second), peak memory. Stops before a count that would exceed the deadline().
    """
    rows: list[dict[str, Any]] = []
    images = benchmark.random_images(max(counts), size)
    for count in counts:
        if rows and deadline() < 3 * rows[-1]["seconds"] * (count / rows[-1]["images"]) ** 2:
            break
        row = _row(network, images[:count], size, product, 3 if count <= 128 else 2)
        rows.append(row)
        print(
            f"    {count:5} images {row['seconds']:8.3f} s  {row['tflops']:6.1f} TFLOP/s  {row['share']:5.1%}  "
            f"{row['beyond_mib']:8.0f} MiB beyond weights",
            flush=True,
        )
    exponent = benchmark.growth_exponent([row for row in rows if row["images"] >= 128])
    return {"rows": rows, "exponent_from_128": exponent, "published": PUBLISHED}


def _row(
    network: Vggt3,
    images: torch.Tensor,
    size: tuple[int, int],
    product: float,
    repeat: int,
    plan: MemoryPlan | None = None,
) -> dict[str, Any]:
    """Measure one map."""
    device, count = network.device, len(images)
    # Warm up kernels of these shapes.
    network.map(images[: min(count, 64)], plan=None if plan is None else dataclasses.replace(plan))
    before = _allocated(device)
    elapsed = benchmark.seconds(lambda: network.map(images, plan=plan), repeat, device)
    tflops = map_flops(network.config, count, *size).total / elapsed / 1e12
    return {
        "images": count,
        "seconds": elapsed,
        "tflops": tflops,
        "share": tflops / product,
        "beyond_mib": (_peak(device) - before) / 2**20,
        "plan": (plan or network.plan(count, size)).describe(),
    }


def chunk_sizes(
    network: Vggt3, size: tuple[int, int], count: int, chunks: Sequence[int], product: float
) -> dict[str, Any]:
    """Measure the same map with different numbers of images per chunk."""
    images, plan = benchmark.random_images(count, size), network.plan(count, size)
    rows = {
        chunk: _row(
            network, images, size, product, 2, dataclasses.replace(plan, chunk_images=chunk)
        )
        for chunk in chunks
    }
    return {
        "share": {chunk: row["share"] for chunk, row in rows.items()},
        "seconds": {chunk: row["seconds"] for chunk, row in rows.items()},
    }


def flat_memory(network: Vggt3, size: tuple[int, int], counts: Sequence[int]) -> dict[str, Any]:
    """Measure the device memory of map() beyond weights and outputs when the tokens are stored in
    host memory.
    """
    rows = []
    for count in counts:
        plan = dataclasses.replace(
            network.plan(count, size),
            tokens=Placement.HOST,
            keep_associations=False,
            stored_bytes=0,
        )
        images = benchmark.random_images(count, size)
        before = _allocated(network.device)
        start = time.perf_counter()
        predictions, scene = network.map(images, plan=plan)  # noqa: RUF059 (held while measured)
        outputs = sum(
            t.nbytes
            for t in ((scene.fast_weights, scene.camera_tokens) if scene else ())
            if t.is_cuda
        )
        rows.append(
            {
                "images": count,
                "seconds": time.perf_counter() - start,
                "beyond_mib": (_peak(network.device) - before - outputs) / 2**20,
            }
        )
    growth = (rows[-1]["beyond_mib"] - rows[0]["beyond_mib"]) / (
        rows[-1]["images"] - rows[0]["images"]
    )
    return {"rows": rows, "mib_per_image": growth}


def with_depth(network: Vggt3, size: tuple[int, int], count: int) -> dict[str, Any]:
    """Time map() with depth of every image."""
    images = benchmark.random_images(count, size)
    network.map(images[:2], depth_frames=[0])
    elapsed = benchmark.seconds(
        lambda: network.map(images, depth_frames=range(count)), 1, network.device
    )
    return {
        "images": count,
        "seconds": elapsed,
        **{f"head_{k}": v for k, v in benchmark.time_dense_head(network, size, 3).items()},
    }


def against_plain(network: Vggt3, size: tuple[int, int], count: int) -> dict[str, Any]:
    """Compare map() with the plain formulas."""
    result = benchmark.compare_with_plain(network, size, count, 3)
    return {**result, "passed": result["speedup"] >= 1.5}


def compiled(network: Vggt3, size: tuple[int, int], count: int) -> dict[str, Any]:
    """Time map() as it is and with torch.compile. Modifies the network."""
    images = benchmark.random_images(count, size)
    plain = benchmark.seconds(lambda: network.map(images), 2, network.device)
    start = time.perf_counter()
    compile_blocks(network).map(images)
    first = time.perf_counter() - start
    return {
        "images": count,
        "seconds": plain,
        "compiled_seconds": benchmark.seconds(lambda: network.map(images), 2, network.device),
        "first_compiled_call_seconds": first,
    }


def query(network: Vggt3, size: tuple[int, int]) -> dict[str, Any]:
    """Time one image against a map of 32 and of 512, seconds; on CUDA also its trunk, and the
    trunk replayed as a CUDA graph.
    """
    result = {
        f"seconds_in_{n}": benchmark.time_query(network, size, n, 5)["seconds"] for n in (32, 512)
    }
    if network.device.type == "cuda" and network.config.attention is GlobalAttention.FAST_WEIGHTS:
        result["trunk_seconds"], result["trunk_graph_seconds"] = _graphed(network, size)
    return result


@torch.inference_mode()
def _graphed(network: Vggt3, size: tuple[int, int]) -> tuple[float, float]:
    """Return the seconds of a query's trunk, and of the same replayed as a CUDA graph."""
    _, scene = network.map(benchmark.random_images(2, size))
    assert scene is not None
    layout: TokenLayout = network.aggregator.layout(*size)
    scratch = Scratch(network.device, network.dtype)
    batch = torch.rand(1, 3, *size, device=network.device).to(network.dtype)

    def trunk() -> torch.Tensor:
        return query_pass(
            network.aggregator,
            batch,
            scene.fast_weights,
            layout,
            scratch,
            Progress(),
            slice(0, 1),
            (),
        )

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            trunk()
    torch.cuda.current_stream().wait_stream(side)
    eager = benchmark.seconds(trunk, 10, network.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        trunk()
    return eager, benchmark.seconds(graph.replay, 10, network.device)


def profile(network: Vggt3, size: tuple[int, int], count: int) -> dict[str, Any]:
    """Return the share of device time by kernel, the largest first."""
    images = benchmark.random_images(count, size)
    network.map(images)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
        network.map(images)
        torch.cuda.synchronize()
    rows = [
        (event.key[:70], event.self_device_time_total, event.count)
        for event in recorded.key_averages()
    ]
    rows = sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1])
    total = sum(row[1] for row in rows) or 1
    return {
        "device_ms": total / 1e3,
        "kernels": [f"{time_ / total:.3f} {calls} {name}" for name, time_, calls in rows[:24]],
    }


def _allocated(device: torch.device) -> int:
    """Return the allocated bytes and reset the peak."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    """Return the peak of allocated bytes."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
