"""``scripts/gpu-check``: check this package on a GPU within a few minutes, most important steps
first.
"""

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vggt3_ros.benchmarks import network as benchmark
from vggt3_ros.benchmarks.gpu import network_steps as network
from vggt3_ros.benchmarks.gpu.runner import Runner
from vggt3_ros.network.config import VGG_T3, VGGT_1B
from vggt3_ros.network.vggt3 import Vggt3

_COUNTS = {"ttt": (1, 8, 32, 128, 512, 1000), "softmax": (1, 8, 32, 128)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gpu_check"),
        metavar="DIR",
        help="results go to DIR/gpu-check.json (default %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=8.0,
        help="time budget; steps that do not fit are skipped (default %(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="STEP", help="run only the steps whose names start so"
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="wheels and rendered keyframes from `scripts/gpu-check --pack DIR`, made on a machine with network access",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        metavar="DIR",
        help="create DIR for --bundle and exit; needs scripts/setup and a package index",
    )
    parser.add_argument(
        "--dry", action="store_true", help="run every step with small sizes on the CPU"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 0 if every step that ran passed, 1 if one failed, 2 without a GPU."""
    arguments = parse(argv)
    if arguments.pack:
        from vggt3_ros.benchmarks.gpu.bundle import pack

        print(
            f"{arguments.pack}: {pack(arguments.pack) / 2**20:.1f} MiB; copy it to the GPU machine and pass it to --bundle"
        )
        return 0
    if not (arguments.dry or torch.cuda.is_available()):
        print(
            "gpu-check: torch finds no CUDA device; --dry runs small sizes on the CPU",
            file=sys.stderr,
        )
        return 2
    device = torch.device("cpu" if arguments.dry else "cuda")
    arguments.out.mkdir(parents=True, exist_ok=True)
    runner = Runner(arguments.out / "gpu-check.json", machine(device), 60 * arguments.minutes)
    print(
        ", ".join(f"{name} {value}" for name, value in runner.report["machine"].items()),
        flush=True,
    )
    check(runner, device, arguments)
    print(
        f"failed: {', '.join(runner.failed) or 'nothing'}; {arguments.out / 'gpu-check.json'}",
        flush=True,
    )
    return 1 if runner.failed else 0


def embedded(bundle: Path, unpacked: Path, device: torch.device, dry: bool) -> dict[str, Any]:
    """Run the back end on the bundle's keyframes; imports the packages in the bundle."""
    from vggt3_ros.benchmarks.gpu.bundle import unpack

    frames = unpack(bundle, unpacked)
    from vggt3_ros.benchmarks.gpu import embedded_steps

    return embedded_steps.embedded(frames, str(device), 8 if dry else None)


def machine(device: torch.device) -> dict[str, str | float]:
    """Describe the device and the versions."""
    found: dict[str, str | float] = {
        "device": platform.processor() or "CPU",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["memory_gib"] = round(
            torch.cuda.get_device_properties(device).total_memory / 2**30, 1
        )
    return found


def check(runner: Runner, device: torch.device, arguments: argparse.Namespace) -> None:
    """Run all steps, most important first."""
    dry = arguments.dry
    setting = benchmark.SETTINGS["small" if dry else "full"]
    size, dtype = setting.size, torch.float32 if dry else torch.bfloat16

    def step(
        name: str, function: Callable[[], dict[str, Any]], needs: float = 0.0
    ) -> dict[str, Any] | None:
        if not arguments.only or name.startswith(tuple(arguments.only)):
            return runner.run(name, function, needs)
        return None

    step("parity", lambda: network.parity(device))
    product = (step("products", lambda: network.products(device, dtype)) or {}).get(
        "tflops"
    ) or float("nan")
    made: dict[str, Vggt3] = {}

    def with_network(kind: str) -> Vggt3:
        """Return the network of one kind; only one is kept in memory."""
        if kind not in made:
            made.clear()
            config = VGG_T3 if kind == "ttt" else VGGT_1B
            made[kind] = benchmark.random_network(setting.config if dry else config, device, dtype)
        return made[kind]

    counts = dict.fromkeys(_COUNTS, (1, 2)) if dry else _COUNTS
    if arguments.bundle:
        step(
            "embedded",
            lambda: embedded(arguments.bundle, arguments.out / "wheels", device, dry),
            60,
        )
    step(
        "map ttt",
        lambda: network.maps(
            with_network("ttt"), size, counts["ttt"], product, lambda: runner.seconds_left
        ),
    )
    if not dry:
        step("profile", lambda: network.profile(with_network("ttt"), size, 128), 20)
        step(
            "chunks",
            lambda: network.chunk_sizes(
                with_network("ttt"), size, 256, (4, 8, 16, 31, 62, 125), product
            ),
            30,
        )
    step("query", lambda: network.query(with_network("ttt"), size), 10)
    step("plain", lambda: network.against_plain(with_network("ttt"), size, 2 if dry else 32), 10)
    step(
        "memory",
        lambda: network.flat_memory(with_network("ttt"), size, (2, 4) if dry else (128, 1000)),
        30,
    )
    step("depth", lambda: network.with_depth(with_network("ttt"), size, 2 if dry else 64), 10)
    step(
        "map softmax",
        lambda: network.maps(
            with_network("softmax"), size, counts["softmax"], product, lambda: runner.seconds_left
        ),
        20,
    )
    step("tests", lambda: network.marked_tests(120), 40)
    if not dry:  # minutes of compiling on a CPU
        step("compiled", lambda: network.compiled(with_network("ttt"), size, 128), 60)


if __name__ == "__main__":
    sys.exit(main())
