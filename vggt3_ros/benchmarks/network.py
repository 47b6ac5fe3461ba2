"""Measurements behind ``vggt3 benchmark network``: speed relative to the machine's own matrix
product, scaling, memory.

Weights are random: speed and memory do not depend on them, and none with a licence are needed.
"""

import dataclasses
import functools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import psutil
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
    """A network and an image size worth measuring."""

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
    """``cpu``: time that this process computes, whatever else runs on the machine; meant for one
    thread.
    """
    global _clock
    _clock = CLOCKS[name]


def seconds(work: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Shortest of ``repeat`` runs, all device work included."""
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
    """Operations a second of a large square matrix product of random numbers (a GPU multiplies
    ones a tenth faster), which is what the machine can do.
    """
    best = 0.0
    for side in (1024, 2048, 4096) if device.type == "cpu" else (8192,):
        a, b = (
            torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2)
        )
        out = torch.empty_like(a)
        multiply = functools.partial(torch.mm, a, b, out=out)
        once = seconds(multiply, 1, device)
        if once > 1 and device.type == "cpu":  # a dtype that the machine only emulates
            return max(best, 2 * side**3 / once)
        repeat = max(2, min(6, int(1 / once)))
        best = max(best, 2 * side**3 / min(once, seconds(multiply, repeat, device)))
    return best


def random_network(config: NetworkConfig, device: torch.device, dtype: torch.dtype) -> Vggt3:
    """Network with random weights of sensible sizes; the heads are float32, as load_checkpoint
    makes them.
    """
    with torch.device("meta"):
        network = Vggt3(config)
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(device)

    def weights(name: str, shape: torch.Size) -> Tensor:
        wanted = dtype if name.startswith("aggregator.") else torch.float32
        size, fan_in = shape.numel(), shape[1:].numel() or 1
        values = pool.repeat(-(-size // pool.numel()))[:size].view(shape) * fan_in**-0.5
        if len(shape) == 1:
            values = torch.full(
                shape, 1.0 if name.endswith(("weight", "gamma")) else 0.0, device=device
            )
        return values.to(wanted)

    tensors = {name: weights(name, tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def random_images(count: int, size: tuple[int, int]) -> Tensor:
    """uint8 [count, 3, H, W]."""
    return torch.randint(
        0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def time_maps(
    network: Vggt3, size: tuple[int, int], counts: Sequence[int], repeat: int
) -> list[dict[str, float]]:
    """map() of each number of images, without dense heads.

    In rounds over all counts, so that other load on the machine meets every count: the shortest
    time counts. Each map is set against the matrix product just before and after it, whichever was
    faster; the median of the rounds counts.
    """
    images = random_images(max(counts), size)
    times, shares, rates = ({count: [] for count in counts} for _ in range(3))
    before = matrix_rate(network.device, network.dtype)
    for _ in range(repeat):
        for count in counts:
            elapsed = seconds(lambda count=count: network.map(images[:count]), 1, network.device)
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
    """Slope of log time over log images, least squares; None for fewer than two sizes."""
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
    """map() against the plain formulas on the same images, in turns so that other load meets
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
    """The depth head on one image, against the matrix product of the head's dtype."""
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
    """One query, without depth, of a scene of ``mapped`` images."""
    _, scene = network.map(random_images(2, size))
    tokens = scene.camera_tokens.repeat(-(-mapped // 2), 1)[:mapped]
    scene = SceneState(scene.fast_weights, tokens, scene.network)
    image = random_images(1, size)
    return {
        "mapped_images": mapped,
        "seconds": seconds(lambda: network.query(image, scene), repeat, network.device),
    }


def measure_memory(
    setting: Setting, count: int, device: torch.device, dtype: torch.dtype, limit: int | None
) -> dict[str, float]:
    """Peak memory of a map() with depth of every image, in a process of its own. Bytes.

    On a GPU the peak of the allocator, on a CPU of the resident set; ``beyond`` is what the pass
    took over the loaded network and what it returned. ``limit``: bytes to plan with, None: what is
    free; 0: whatever can wait elsewhere does.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory_of_a_map, setting, count, str(device), dtype, limit).result()


def _memory_of_a_map(
    setting: Setting, count: int, device_name: str, dtype: torch.dtype, limit: int | None
) -> dict:
    device = torch.device(device_name)
    network = random_network(setting.config, device, dtype)
    network.map(random_images(1, setting.size), depth_frames=[0])  # whatever is set up once
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
    """Of what lies on the device."""
    on_device = [scene.fast_weights, scene.camera_tokens] if scene else []
    if device.type == "cpu":
        on_device += [
            predictions.pose_encoding,
            predictions.depth.values,
            predictions.depth.confidence,
        ]
    return sum(tensor.nbytes for tensor in on_device)
