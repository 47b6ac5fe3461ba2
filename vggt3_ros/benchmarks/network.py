"""Measurements behind ``vggt3 benchmark network``: speed relative to the machine's own matrix
product, scaling, memory.

Uses random weights: speed and memory do not depend on them, and no licensed weights are needed.
"""

import dataclasses
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.network.config import VGG_T3, NetworkConfig
from vggt3_ros.network.flops import dense_head_flops, map_flops
from vggt3_ros.network.plain import plain_map
from vggt3_ros.network.progress import Progress
from vggt3_ros.network.token_store import Placement
from vggt3_ros.network.values import Predictions, SceneState
from vggt3_ros.network.vggt3 import Vggt3
from vggt3_ros.system import memory_use


@dataclass(frozen=True)
class Setting:
    """A network and an image size to measure."""

    config: NetworkConfig
    size: tuple[int, int]  # height, width in pixels


SETTINGS = {
    "small": Setting(
        NetworkConfig(
            encoder="dinov2_vits14_reg", embed_dim=384, depth=4, num_heads=6, tapped_layers=(0, 1, 2, 3),
            dense_features=32, dense_channels=(32, 48, 64, 64),
        ),
        (70, 98),
    ),
    "full": Setting(VGG_T3, (518, 392)),
}  # fmt: skip


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_clock = CLOCKS["wall"]


def use_clock(name: str) -> None:
    """Select the clock. ``cpu``: CPU time of this process, independent of other load on the
    machine; intended for one thread.
    """
    global _clock
    _clock = CLOCKS[name]


def seconds(work: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Return the shortest time of ``repeat`` runs, including all device work."""
    best = math.inf
    for _ in range(repeat):
        _wait(device)
        start = _clock()
        work()
        _wait(device)
        best = min(best, _clock() - start)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the machine's operations per second in a large square matrix product.

    Multiplies random numbers, because a GPU multiplies ones a tenth faster.
    """
    best = 0.0
    for side in (1024, 2048, 4096) if device.type == "cpu" else (8192,):
        a, b = (
            torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2)
        )
        out = torch.empty_like(a)
        product = partial(torch.mm, a, b, out=out)
        once = seconds(product, 1, device)
        if once > 1 and device.type == "cpu":  # the machine emulates this dtype
            return max(best, 2 * side**3 / once)
        repeat = max(2, min(6, int(1 / once)))
        best = max(best, 2 * side**3 / min(once, seconds(product, repeat, device)))
    return best


def random_network(config: NetworkConfig, device: torch.device, dtype: torch.dtype) -> Vggt3:
    """Return a network with random weights of realistic scale; the heads are float32, as in
    load_checkpoint.
    """
    with torch.device("meta"):
        network = Vggt3(config)
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(device)

    def weights(name: str, shape: torch.Size) -> Tensor:
        wanted = dtype if name.startswith("aggregator.") else torch.float32
        size, fan_in = shape.numel(), shape[1:].numel() or 1
        values: Tensor = pool.repeat(-(-size // pool.numel()))[:size].view(shape) * fan_in**-0.5
        if len(shape) == 1:
            values = torch.full(
                shape, 1.0 if name.endswith(("weight", "gamma")) else 0.0, device=device
            )
        return values.to(wanted)

    tensors = {name: weights(name, tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def random_images(count: int, size: tuple[int, int]) -> Tensor:
    """Return uint8 [count, 3, H, W]."""
    return torch.randint(
        0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def time_maps(
    network: Vggt3, size: tuple[int, int], counts: Sequence[int], repeat: int
) -> list[dict[str, float]]:
    """Time map() for each number of images, without dense heads.

    The counts are interleaved in rounds so that other load on the machine affects all of them; the
    shortest time counts. Each map is compared with the faster of the matrix products just before
    and after it; the median over the rounds counts.
    """
    images = random_images(max(counts), size)
    times: dict[int, list[float]] = {count: [] for count in counts}
    shares: dict[int, list[float]] = {count: [] for count in counts}
    rates: dict[int, list[float]] = {count: [] for count in counts}
    before = matrix_rate(network.device, network.dtype)
    for _ in range(repeat):
        for count in counts:
            elapsed = seconds(partial(network.map, images[:count]), 1, network.device)
            after = matrix_rate(network.device, network.dtype)
            times[count].append(elapsed)
            rates[count].append(max(before, after))
            shares[count].append(
                map_flops(network.config, count, *size).total / elapsed / rates[count][-1]
            )
            before = after
    return [
        {
            "images": count,
            "seconds": min(times[count]),
            "seconds_per_image": min(times[count]) / count,
            "tflops": map_flops(network.config, count, *size).total / min(times[count]) / 1e12,
            "matrix_product_tflops": max(rates[count]) / 1e12,
            "fraction_of_matrix_product": statistics.median(shares[count]),
        }
        for count in counts
    ]


def growth_exponent(rows: Sequence[dict[str, float]]) -> float | None:
    """Return the least-squares slope of log time over log images; None for fewer than two sizes."""
    if len(rows) < 2:
        return None
    x = [math.log(row["images"]) for row in rows]
    y = [math.log(row["seconds"]) for row in rows]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum(
        (a - mx) ** 2 for a in x
    )


def compare_with_plain(
    network: Vggt3, size: tuple[int, int], count: int, repeat: int
) -> dict[str, float]:
    """Time map() and the plain formulas on the same images, interleaved so that other load affects
    both.
    """
    images = random_images(count, size)
    pixels = images.to(network.device, torch.float32) / 255
    ours, plain = math.inf, math.inf
    for _ in range(repeat):
        ours = min(ours, seconds(lambda: network.map(images), 1, network.device))
        plain = min(plain, seconds(lambda: plain_map(network, pixels), 1, network.device))
    return {"images": count, "seconds": ours, "plain_seconds": plain, "speedup": plain / ours}


@torch.inference_mode()
def time_dense_head(network: Vggt3, size: tuple[int, int], repeat: int) -> dict[str, float]:
    """Time the depth head on one image, relative to the matrix product of the head's dtype."""
    head, config = network.depth_head, network.config
    grid = config.patch_grid(*size)
    patches = torch.ones(
        1, grid[0] * grid[1], config.token_dim, device=network.device, dtype=network.dtype
    )

    def work() -> None:
        head.decode([head.project(level, patches, grid) for level in range(4)], grid, Progress())

    work()
    elapsed = seconds(work, repeat, network.device)
    rate = matrix_rate(network.device, head.norm.weight.dtype)
    return {
        "seconds_per_image": elapsed,
        "fraction_of_matrix_product": dense_head_flops(config, *size, 2) / elapsed / rate,
    }


def time_query(
    network: Vggt3, size: tuple[int, int], mapped: int, repeat: int
) -> dict[str, float]:
    """Time one query, without depth, in a scene of ``mapped`` images."""
    _, scene = network.map(random_images(2, size))
    assert scene is not None
    tokens = scene.camera_tokens.repeat(-(-mapped // 2), 1)[:mapped]
    scene = SceneState(scene.fast_weights, tokens, scene.network)
    image = random_images(1, size)
    return {
        "mapped_images": mapped,
        "seconds": seconds(lambda: network.query(image, scene), repeat, network.device),
    }


def measure_memory(
    setting: Setting, count: int, device: torch.device, dtype: torch.dtype, limit: int | None
) -> dict[str, Any]:
    """Measure the peak memory, bytes, of a map() with depth of every image, in a process of its
    own.

    On a GPU this is the peak of the allocator, on a CPU that of the resident set. ``beyond`` is
    the peak minus the loaded network and the outputs. ``limit``: bytes to plan with; None: the
    free memory; 0: keep as little as possible on the device.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory_of_a_map, setting, count, str(device), dtype, limit).result()


def _memory_of_a_map(
    setting: Setting, count: int, device_name: str, dtype: torch.dtype, limit: int | None
) -> dict[str, Any]:
    """Run in the child process: the figures of :func:`measure_memory`."""
    device = torch.device(device_name)
    network = random_network(setting.config, device, dtype)
    network.map(random_images(1, setting.size), depth_frames=[0])  # warm up
    images = random_images(count, setting.size)
    plan = network.plan(count, setting.size, count, ("depth",), limit)
    if limit == 0:
        elsewhere = Placement.DISK if device.type == "cpu" else Placement.HOST
        plan = dataclasses.replace(
            plan, tokens=elsewhere, projections=elsewhere, keep_associations=False, stored_bytes=0
        )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        import psutil  # absent on a bare GPU machine

        before = psutil.Process().memory_info().rss
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")  # start a new peak, which psutil cannot
    predictions, scene = network.map(images, depth_frames=range(count), plan=plan)
    after = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else memory_use.peak_bytes()
    )
    outputs = _output_bytes(predictions, scene, device)
    return {
        "images": count,
        "before": before,
        "peak": after,
        "outputs": outputs,
        "beyond": after - before - outputs,
        "plan": plan.describe(),
    }


def _output_bytes(predictions: Predictions, scene: SceneState | None, device: torch.device) -> int:
    """Return the bytes of the outputs that are on the device."""
    on_device = [scene.fast_weights, scene.camera_tokens] if scene else []
    if device.type == "cpu":
        assert predictions.depth is not None
        on_device += [
            predictions.pose_encoding,
            predictions.depth.values,
            predictions.depth.confidence,
        ]
    return sum(tensor.nbytes for tensor in on_device)
