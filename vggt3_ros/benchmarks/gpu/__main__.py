"""``scripts/gpu-check``: what a GPU makes of this package, most important first, within a few
minutes.
"""

import argparse
import platform
import sys
from pathlib import Path

import torch

from vggt3_ros.benchmarks import network as benchmark
from vggt3_ros.benchmarks.gpu import network_steps as network
from vggt3_ros.benchmarks.gpu.runner import Runner
from vggt3_ros.network.config import VGG_T3, VGGT_1B

_COUNTS = {"ttt": (1, 8, 32, 128, 512, 1000), "softmax": (1, 8, 32, 128)}


def parse(argv: list[str] | None) -> argparse.Namespace:
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
        help="steps that do not fit any more are skipped (default %(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="STEP", help="these steps alone, by the start of their names"
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="wheels and rendered keyframes that `scripts/gpu-check --pack DIR` put there on a machine with a network",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        metavar="DIR",
        help="fill DIR for --bundle and stop; needs scripts/setup and a package index",
    )
    parser.add_argument(
        "--dry", action="store_true", help="small sizes, on the CPU: shows that every step runs"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 when every step that ran passed, 1 when one failed, 2 where there is no
    GPU.
    """
    arguments = parse(argv)
    if arguments.pack:
        from vggt3_ros.benchmarks.gpu.bundle import pack

        print(
            f"{arguments.pack}: {pack(arguments.pack) / 2**20:.1f} MiB; take it along and give it to --bundle"
        )
        return 0
    if not (arguments.dry or torch.cuda.is_available()):
        print(
            "gpu-check: torch finds no CUDA device here; --dry runs small sizes on the CPU",
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


def embedded(bundle: Path, unpacked: Path, device: torch.device, dry: bool) -> dict:
    """The back end on the bundle's keyframes; imports what the bundle holds."""
    from vggt3_ros.benchmarks.gpu.bundle import unpack

    frames = unpack(bundle, unpacked)
    from vggt3_ros.benchmarks.gpu import embedded_steps

    return embedded_steps.embedded(frames, str(device), 8 if dry else None)


def machine(device: torch.device) -> dict:
    found = {
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
    dry = arguments.dry
    setting = benchmark.SETTINGS["small" if dry else "full"]
    size, dtype = setting.size, torch.float32 if dry else torch.bfloat16

    def step(name, function, needs=0.0):
        if not arguments.only or name.startswith(tuple(arguments.only)):
            return runner.run(name, function, needs)
        return None

    step("parity", lambda: network.parity(device))
    product = (step("products", lambda: network.products(device, dtype)) or {}).get(
        "tflops"
    ) or float("nan")
    made = {}

    def with_network(kind):
        """The network of one kind; one at a time is held."""
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
