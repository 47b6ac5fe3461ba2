"""What evaluate, replay and frontend share: a data set by its path, and how to read it."""

HELP = "folder in the TUM, 7-Scenes or EuRoC layout, or a rosbag2 (folder, .mcap or .db3)"


def add_frame_arguments(parser, **path):
    """PATH and where its images are. path: of add_argument, where there may be several."""
    parser.add_argument("path", help=HELP, **path)
    topics = parser.add_argument_group(
        "bags", "topics are guessed by type and name where they are not given"
    )
    for name, what in (
        ("image", "sensor_msgs/Image or CompressedImage"),
        ("camera-info", "sensor_msgs/CameraInfo"),
        ("depth", "depth; registered where its frame or CameraInfo is not the image's; '': none"),
        ("depth-camera-info", "its sensor_msgs/CameraInfo"),
        ("right", "image of a second camera to the right, which gives depth where no topic does"),
        ("right-camera-info", "its sensor_msgs/CameraInfo, p[3] = -fx * baseline"),
        ("keyframes", "vggt3_ros/Keyframe, instead of all others"),
        ("odometry", "nav_msgs/Odometry, or poses as PoseStamped or TransformStamped"),
        ("groundtruth", "truth for what the odometry is of, same types; never guessed"),
    ):
        topics.add_argument(f"--{name}-topic", metavar="TOPIC", help=what)
    topics.add_argument(
        "--base-frame",
        metavar="FRAME",
        default="",
        help="what the odometry's poses are of; by default its child_frame_id",
    )
    topics.add_argument(
        "--camera-in-base",
        metavar="'X Y Z QX QY QZ QW'",
        help="optical frame of the camera in the odometry's child frame, metres; /tf_static by default",
    )
    topics.add_argument(
        "--rectified",
        action="store_true",
        help="the images are rectified: p of the CameraInfo holds, k and d do not",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what belongs to an image and which poses are "
        "believed, by the names of the node's input parameters: sync_tolerance=0.04 (s), pose_gap=0.5 (s), "
        "jump_translation=0 (m), jump_rotation=0 (rad)",
    )
    parser.add_argument(
        "--time-offset",
        action="append",
        default=[],
        metavar="LIST=SECONDS",
        help="add so much to the stamps of depth, right, "
        "odometry or groundtruth, whose clock is not that of the images",
    )
    parser.add_argument(
        "--no-stereo",
        action="store_true",
        help="the left camera alone, without depth from stereo (EuRoC, bags)",
    )


def add_sequence_arguments(parser, **path):
    """The same, with odometry and which of the frames are keyframes."""
    add_frame_arguments(parser, **path)
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
        help="no odometry: the truth, made to drift by so many metres (ATE)",
    )
    add_selection_arguments(parser)


def add_selection_arguments(parser):
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


def options(arguments, queries=None):
    """Options of datasets.dataset from what the two functions above added."""
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


def _pose(text):
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


def _numbers(option, pairs, names):
    """["translation=0.3", ...] -> {"translation": 0.3}; ValueError naming the pair that makes no
    sense.
    """
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in names:
            raise ValueError(
                f"{option} {pair}: give NAME=VALUE with one of the names {', '.join(names)}"
            )
        try:
            values[name] = float(text)
        except ValueError as error:
            raise ValueError(f"{option} {pair}: '{text}' is no number") from error
        if not abs(values[name]) < float("inf"):
            raise ValueError(f"{option} {pair}: '{text}' is no number")
    return values
