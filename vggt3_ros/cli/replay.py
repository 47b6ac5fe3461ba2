"""vggt3 replay: play a recorded data set as a front end over DDS."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers

if TYPE_CHECKING:
    from vggt3_ros.store.keyframe import Keyframe

RATE, CLOCK_RATE = 5.0, 100.0


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    from vggt3_ros.cli.dataset import add_sequence_arguments

    parser = subparsers.add_parser(
        "replay", help="play a folder or bag as a front end: keyframes over ROS 2"
    )
    add_sequence_arguments(parser)
    add_pace_arguments(parser)
    parser.add_argument(
        "--keep-stamps",
        action="store_true",
        help="send the recorded stamps instead of the current time",
    )
    parser.set_defaults(run=run)


def add_pace_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the rate, the frames and the clock."""
    parser.add_argument(
        "--rate",
        type=float,
        help=f"keyframes per second, {RATE:g} by default; 0: as fast as the back end accepts them, with the recorded "
        "intervals between stamps",
    )
    parser.add_argument(
        "--speed",
        type=float,
        metavar="FACTOR",
        help="play at this multiple of the recorded speed (default with --clock: 1)",
    )
    parser.add_argument(
        "--clock",
        type=float,
        nargs="?",
        const=CLOCK_RATE,
        default=0.0,
        metavar="HZ",
        help=f"keep the recorded stamps and publish their time on /clock, at {CLOCK_RATE:g} Hz by default; nodes "
        "need use_sim_time",
    )
    parser.add_argument(
        "--wait", type=float, default=30.0, help="seconds to wait for the back end"
    )
    parser.add_argument("--odom-frame", default="odom")
    parser.add_argument("--camera-frame", default="camera")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--ros-args",
        nargs="...",
        default=[],
        help="ROS arguments, such as -r keyframes:=/robot1/keyframes, or for all topics "
        "-r __ns:=/robot1 -r /tf:=tf",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from tqdm import tqdm

    check_pace(arguments)
    from vggt3_ros.cli.dataset import options
    from vggt3_ros.datasets.dataset import open_dataset

    sequence = open_dataset(arguments.path, options(arguments))
    play(
        arguments,
        tqdm(sequence.keyframes, desc="keyframes sent", unit="", disable=arguments.quiet or None),
        int(sequence.stamps_ns[0]),
        arguments.keep_stamps,
    )
    return 0


def play(
    arguments: argparse.Namespace,
    keyframes: Iterable[Keyframe],
    first_ns: int,
    keep_stamps: bool = False,
) -> int:
    """Send Keyframes, the first stamped first_ns, at the pace of the arguments. Returns how many
    were sent.
    """
    from vggt3_ros.ros.clients import player

    start_ns = None
    if arguments.clock or keep_stamps:
        start_ns = first_ns or 1  # ROS takes a stamp of zero for unset
    elif arguments.rate == 0:
        # Without a rate the recorded stamps determine the intervals.
        start_ns = time.time_ns()
    try:
        sent: int = player.play(
            keyframes,
            first_ns,
            due(arguments, first_ns),
            wait=arguments.wait,
            odom_frame=arguments.odom_frame,
            camera_frame=arguments.camera_frame,
            clock_rate=arguments.clock,
            start_ns=start_ns,
            ros_arguments=["--ros-args", *arguments.ros_args] if arguments.ros_args else [],
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return sent


def check_pace(arguments: argparse.Namespace) -> None:
    """Raise ValueError if --rate, --speed or --clock are out of range or exclude each other."""
    for name, least in (("rate", 0), ("speed", 0.001), ("clock", 0)):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= 10_000:
            raise ValueError(f"--{name} must be {least:g} to 10000, got {value:g}")
    if arguments.rate is not None and arguments.speed is not None:
        raise ValueError("--rate and --speed exclude each other")


def due(arguments: argparse.Namespace, first_ns: int) -> Callable[[int, int], float]:
    """Return due(count, stamp_ns), the seconds after the first keyframe at which a keyframe is
    sent.
    """
    speed = arguments.speed or (1.0 if arguments.clock and arguments.rate is None else None)
    if speed:
        return lambda count, stamp_ns: (stamp_ns - first_ns) / 1e9 / speed
    rate = RATE if arguments.rate is None else arguments.rate
    return lambda count, stamp_ns: count / rate if rate else 0.0
