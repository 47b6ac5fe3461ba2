"""vggt3 frontend: visual odometry on a recorded RGB-D or stereo data set; sends its keyframes over
ROS 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vggt3_ros.cli import SubParsers

if TYPE_CHECKING:
    import numpy as np

    from vggt3_ros.frontend.tracker_process import TrackerProcess
    from vggt3_ros.store.keyframe import Keyframe


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    from vggt3_ros.cli.dataset import add_frame_arguments, add_selection_arguments
    from vggt3_ros.cli.replay import add_pace_arguments

    parser = subparsers.add_parser(
        "frontend",
        help="run an example front end: RGB-D odometry on a folder or bag, keyframes over ROS 2",
        description="Tracks every frame itself and ignores odometry in the data set.",
    )
    add_frame_arguments(parser)
    add_selection_arguments(parser)
    add_pace_arguments(parser)
    parser.add_argument(
        "--tracker",
        metavar="COMMAND",
        help="run this tracker in a process of its own instead of the RGB-D odometry, such as "
        '"scripts/orbslam3-tracker ORBvoc.txt" (needs pyorbslam3, GPL-3)',
    )
    parser.add_argument(
        "--trajectory",
        metavar="FILE",
        help="write the odometry of the keyframes (TUM lines); "
        "`vggt3 evaluate PATH --odometry FILE` scores it",
    )
    parser.add_argument(
        "--offline", action="store_true", help="track and write --trajectory without ROS"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from contextlib import nullcontext

    from tqdm import tqdm

    from vggt3_ros.cli.dataset import options
    from vggt3_ros.cli.replay import check_pace, play
    from vggt3_ros.datasets.dataset import open_recording
    from vggt3_ros.datasets.tum_files import write_trajectory_tum
    from vggt3_ros.frontend.keyframes import tracked_keyframes
    from vggt3_ros.frontend.tracker_process import TrackerProcess

    check_pace(arguments)
    if arguments.offline and not arguments.trajectory:
        raise ValueError("--offline needs --trajectory FILE to write to")
    chosen = options(arguments)
    recording = open_recording(arguments.path, chosen)
    stamps: list[int] = []
    poses: list[np.ndarray] = []

    def recorded(tracker: TrackerProcess | None) -> Iterator[Keyframe]:
        keyframes = tracked_keyframes(
            recording, None if chosen.every_frame else chosen.limits, tracker
        )
        for keyframe in tqdm(
            keyframes, desc="keyframes", unit="", disable=arguments.quiet or None
        ):
            stamps.append(keyframe.stamp_ns)
            poses.append(keyframe.T_odom_cam)
            yield keyframe

    with TrackerProcess(arguments.tracker) if arguments.tracker else nullcontext() as tracker:
        sent = (
            sum(1 for _ in recorded(tracker))
            if arguments.offline
            else play(arguments, recorded(tracker), int(recording.stamps_ns[0]))
        )
    if arguments.trajectory:
        write_trajectory_tum(arguments.trajectory, stamps, poses, "T_odom_cam, RGB-D odometry")
    print(f"{sent} keyframes of {len(recording)} frames")
    return 0
