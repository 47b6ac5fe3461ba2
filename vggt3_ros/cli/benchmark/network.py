"""vggt3 benchmark network: measure speed and memory of the network on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark.rows import numbers

if TYPE_CHECKING:
    import torch

_DESCRIPTION = (
    "Measures a large matrix product (the peak of the machine), then map() by number of images for both kinds of global "
    "attention, against the plain formulas, the dense head, and query(). Weights are random; none are needed."
)
_IMAGES = {"small": "32,64,128,256,512", "full": "1,2,4"}
_QUERY_MAPS = (32, 512)


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "network", help="speed and memory of the network", description=_DESCRIPTION
    )
    parser.add_argument(
        "--size", choices=("small", "full"), default="small",
        help="small: 4 layers of width 384 at 98x70; full: the published size at 392x518 (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--images",
        type=numbers,
        help=f"numbers of images (default {_IMAGES['small']}; full: {_IMAGES['full']})",
    )
    parser.add_argument(
        "--attention",
        choices=("both", "ttt", "softmax"),
        default="both",
        help="default %(default)s",
    )
    parser.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto",
        help="of the trunk; auto: whichever of bfloat16 and float32 multiplies faster here",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1; auto: cuda where there is one"
    )
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each measurement; the shortest counts"
    )
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: measure CPU time, for a machine under other load; set OMP_NUM_THREADS=1",
    )  # fmt: skip
    parser.add_argument(
        "--plain-images",
        type=int,
        help="images of the comparison with the plain formulas (0: leave out)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="use torch.compile, which fuses the operations between the products",
    )
    parser.add_argument(
        "--memory", action="store_true", help="peak memory by number of images, instead of times"
    )
    parser.add_argument(
        "--memory-limit", type=int, metavar="MIB",
        help="device memory that map() may plan with under --memory; 0: keep as much as possible in host memory or on disk",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import torch

    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu")
        if arguments.device == "auto"
        else arguments.device
    )

    def say(text: str) -> None:
        if not arguments.json:
            print(text, flush=True)

    result = measure(arguments, device, say)
    if arguments.json:
        print(json.dumps(result, indent=2))
    return 0


def measure(
    arguments: argparse.Namespace, device: torch.device, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return all measurements as JSON values; ``say`` receives each as text when it is done."""
    import dataclasses
    import os

    import torch

    from vggt3_ros.benchmarks import network as benchmark
    from vggt3_ros.network.compiled import compile_blocks
    from vggt3_ros.network.config import GlobalAttention

    benchmark.use_clock(arguments.clock)
    setting = benchmark.SETTINGS[arguments.size]
    counts = arguments.images or numbers(_IMAGES[arguments.size])
    names = (
        ("bfloat16", "float32")
        if arguments.dtype in ("auto", "float32")
        else (arguments.dtype, "float32")
    )
    rates = {name: benchmark.matrix_rate(device, getattr(torch, name)) for name in names}
    chosen = max(rates, key=rates.__getitem__) if arguments.dtype == "auto" else arguments.dtype
    dtype = getattr(torch, chosen)
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    products = ", ".join(f"{name} {rate / 1e12:.3f}" for name, rate in rates.items())
    where += ", CPU seconds" if arguments.clock == "cpu" else ""
    say(f"{where}; matrix product in TFLOP/s: {products}; the trunk runs in {chosen}")
    result: dict[str, Any] = {
        "device": where,
        # Other load on the machine slows down all measurements.
        "load_before": os.getloadavg()[0],
        "size": arguments.size,
        "image_size": list(setting.size),
        "dtype": chosen,
        "matrix_product_tflops": {name: rate / 1e12 for name, rate in rates.items()},
        "map": {},
    }

    kinds = ("ttt", "softmax") if arguments.attention == "both" else (arguments.attention,)
    for kind in kinds if not arguments.memory else ():
        config = dataclasses.replace(setting.config, attention=GlobalAttention(kind))
        network = benchmark.random_network(config, device, dtype)
        if arguments.compile:
            compile_blocks(network)
        network.map(benchmark.random_images(1, setting.size))  # warm up
        rows = benchmark.time_maps(network, setting.size, counts, arguments.repeat)
        for row in rows:
            say(
                f"{kind:8} map of {row['images']:5} images {row['seconds']:9.2f} s, {row['tflops']:7.3f} TFLOP/s, "
                f"{row['fraction_of_matrix_product']:4.0%} of the matrix product"
            )
        exponent = benchmark.growth_exponent(rows)
        if exponent is not None:
            say(f"{kind:8} time grows with images^{exponent:.2f}")
        result["map"][kind] = {"rows": rows, "exponent": exponent}

        plain_count = arguments.plain_images
        plain_count = (
            {"small": 64, "full": 4}[arguments.size] if plain_count is None else plain_count
        )
        if plain_count:
            row = benchmark.compare_with_plain(
                network, setting.size, plain_count, arguments.repeat
            )
            say(
                f"{kind:8} {row['speedup']:.2f} times as fast as the plain formulas ({plain_count} images)"
            )
            result["map"][kind]["plain"] = row
        if kind == "ttt":
            result["query"] = []
            for mapped in _QUERY_MAPS:
                row = benchmark.time_query(network, setting.size, mapped, arguments.repeat)
                say(f"query in a map of {mapped} images: {row['seconds']:.3f} s")
                result["query"].append(row)
            row = benchmark.time_dense_head(network, setting.size, arguments.repeat)
            share = row["fraction_of_matrix_product"]
            say(
                f"depth head: {row['seconds_per_image']:.3f} s per image, {share:.0%} of the float32 product"
            )
            result["depth_head"] = row
        del network

    if arguments.memory:
        limit = None if arguments.memory_limit is None else arguments.memory_limit << 20
        result["memory"] = []
        for count in counts:
            row = benchmark.measure_memory(setting, count, device, dtype, limit)
            mib = {name: row[name] / 2**20 for name in ("before", "peak", "outputs", "beyond")}
            say(
                f"memory of {count:5} images: {mib['before']:.0f} MiB loaded, peak {mib['peak']:.0f}, "
                f"outputs {mib['outputs']:.0f}, beyond {mib['beyond']:.0f} MiB ({row['plan']})"
            )
            result["memory"].append(row)
    return result
