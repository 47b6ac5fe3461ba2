"""Arguments shared by evaluate, replay and frontend: the path of a data set, and how to read it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from vggt3_ros.datasets.dataset import Options

HELP = "folder in the TUM, 7-Scenes or EuRoC layout, or a rosbag2 (folder, .mcap or .db3)"


def add_frame_arguments(
    parser: argparse.ArgumentParser, *, nargs: str | None = None, metavar: str | None = None
) -> None:
    """Add PATH and the arguments that say where its images are. nargs, metavar: of PATH, see add_argument."""
    parser.add_argument("path", help=HELP, nargs=nargs, metavar=metavar)
    topics = parser.add_argument_group(
        "bags", "topics that are not given are guessed by type and name"
    )
    for name, what in (
        ("image", "sensor_msgs/Image or CompressedImage"),
        ("camera-info", "sensor_msgs/CameraInfo"),
        (
            "depth",
            "depth, registered if its frame or CameraInfo differs from the image's; '': none",
        ),
        ("depth-camera-info", "its sensor_msgs/CameraInfo"),
        (
            "right",
            "image of a second camera to the right, for depth from stereo if there is no depth topic",
        ),
        ("right-camera-info", "its sensor_msgs/CameraInfo, p[3] = -fx * baseline"),
        ("keyframes", "vggt3_ros/Keyframe, used instead of all other topics"),
        ("odometry", "nav_msgs/Odometry, or poses as PoseStamped or TransformStamped"),
        (
            "groundtruth",
            "ground truth of the frame that the odometry tracks, same types; never guessed",
        ),
    ):
        topics.add_argument(f"--{name}-topic", metavar="TOPIC", help=what)
    topics.add_argument(
        "--base-frame",
        metavar="FRAME",
        default="",
        help="frame that the odometry tracks; by default its child_frame_id",
    )
    topics.add_argument(
        "--camera-in-base",
        metavar="'X Y Z QX QY QZ QW'",
        help="optical frame of the camera in the odometry's child frame, metres; /tf_static by default",
    )
    topics.add_argument(
        "--rectified",
        action="store_true",
        help="the images are rectified: use p of the CameraInfo, not k and d",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="synchronization and pose checks, by the names of the node's input parameters: "
        "sync_tolerance=0.04 (s), pose_gap=0.5 (s), jump_translation=0 (m), jump_rotation=0 (rad)",
    )
    parser.add_argument(
        "--time-offset",
        action="append",
        default=[],
        metavar="LIST=SECONDS",
        help="add this to the stamps of depth, right, odometry or groundtruth, if their clock differs "
        "from that of the images",
    )
    parser.add_argument(
        "--no-stereo",
        action="store_true",
        help="use only the left camera, without depth from stereo (EuRoC, bags)",
    )


def add_sequence_arguments(
    parser: argparse.ArgumentParser, *, nargs: str | None = None, metavar: str | None = None
) -> None:
    """Add the frame arguments, the odometry, and the selection of keyframes."""
    add_frame_arguments(parser, nargs=nargs, metavar=metavar)
    parser.add_argument(
        "--odometry",
        metavar="FILE",
        help="trajectory of the front end (TUM lines, camera poses); by default "
        "odometry.txt in a folder, the odometry in a bag",
    )
    parser.add_argument(
        "--groundtruth",
        metavar="FILE",
        help="true trajectory (TUM lines, camera poses) instead of the data set's own",
    )
    parser.add_argument(
        "--drift",
        type=float,
        metavar="M",
        help="instead of odometry, use the ground truth with simulated drift of this many metres (ATE)",
    )
    add_selection_arguments(parser)


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select keyframes."""
    parser.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="which frames of a stream become keyframes, by "
        "the names of the node's selection parameters: translation=0.3 (m), rotation=0.2 (rad), overlap=0.7, longest=2 (s)",
    )
    parser.add_argument(
        "--all-frames", action="store_true", help="every frame with a pose is a keyframe"
    )


def options(arguments: argparse.Namespace, queries: str | None = None) -> Options:
    """Return the Options of datasets.dataset from the parsed arguments. Raises ValueError for
    contradictory ones.
    """
    from dataclasses import replace

    from vggt3_ros.datasets.dataset import Options
    from vggt3_ros.datasets.rosbag_topics import Topics
    from vggt3_ros.datasets.trajectories import LISTS
    from vggt3_ros.frontend.pairing import PairingConfig
    from vggt3_ros.frontend.selection import SelectionConfig
    from vggt3_ros.system.checked import describe

    topics = Topics(
        **{name: getattr(arguments, f"{name}_topic") for name in Topics.__dataclass_fields__}
    )
    given = Options(
        topics=topics,
        T_base_cam=_pose(arguments.camera_in_base),
        rectified=arguments.rectified,
        stereo=not arguments.no_stereo,
        base_frame=arguments.base_frame,
        pairing=PairingConfig.from_flat(
            _numbers("--input", arguments.input, describe(PairingConfig))
        ),
        time_offsets=_numbers("--time-offset", arguments.time_offset, LISTS),
    )
    every_frame = True if arguments.all_frames else False if arguments.select else None
    given = replace(
        given,
        limits=SelectionConfig.from_flat(
            _numbers("--select", arguments.select, describe(SelectionConfig))
        ),
        every_frame=every_frame,
    )
    if arguments.all_frames and arguments.select:
        raise ValueError("--all-frames and --select exclude each other")
    if not hasattr(arguments, "odometry"):
        return given
    if arguments.drift is not None and not 0 < arguments.drift < 1000:
        raise ValueError(f"--drift must be a positive number of metres, got {arguments.drift}")
    if arguments.drift is not None and arguments.odometry:
        raise ValueError("--odometry and --drift exclude each other")
    return replace(
        given,
        odometry=arguments.odometry,
        groundtruth=arguments.groundtruth,
        drift=arguments.drift,
        queries=queries,
    )


def _pose(text: str | None) -> np.ndarray | None:
    """Parse 'x y z qx qy qz qw' to a pose (4, 4). Raises ValueError."""
    if text is None:
        return None
    from vggt3_ros.geometry import se3

    try:
        values = [float(part) for part in text.replace(",", " ").split()]
        if len(values) != 7:
            raise ValueError(f"{len(values)} numbers")
        return se3.from_quaternion(values[:3], values[3:])
    except ValueError as error:
        raise ValueError(
            f"--camera-in-base '{text}': {error}; give 'x y z qx qy qz qw'"
        ) from error


def _numbers(option: str, pairs: Iterable[str], names: Iterable[str]) -> dict[str, float]:
    """Parse ["translation=0.3", ...] to {"translation": 0.3}. Raises ValueError naming an invalid
    pair.
    """
    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in names:
            raise ValueError(
                f"{option} {pair}: give NAME=VALUE with one of the names {', '.join(names)}"
            )
        try:
            values[name] = float(text)
        except ValueError as error:
            raise ValueError(f"{option} {pair}: '{text}' is not a number") from error
        if not abs(values[name]) < float("inf"):
            raise ValueError(f"{option} {pair}: '{text}' is not a number")
    return values
