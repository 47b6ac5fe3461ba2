"""vggt3 replay: a front end over DDS from a folder in the TUM layout."""


def add_parser(subparsers):
    parser = subparsers.add_parser("replay", help="play a TUM-layout folder as a front end: keyframes over ROS 2")
    parser.add_argument("folder", help="rgb.txt, depth.txt, camera.yaml and a trajectory")
    parser.add_argument("--odometry", help="trajectory file of the front end, odometry.txt by default")
    parser.add_argument("--rate", type=float, default=5.0, help="keyframes a second; 0: as fast as the back end takes them")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds to wait for the back end")
    parser.add_argument("--odom-frame", default="odom")
    parser.add_argument("--camera-frame", default="camera")
    parser.add_argument("--keep-stamps", action="store_true", help="send the recorded stamps instead of moving them to now")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--ros-args", nargs="...", default=[], help="ROS arguments, as -r keyframes:=/robot/keyframes")
    parser.set_defaults(run=run)


def run(arguments):
    if arguments.rate < 0:
        raise ValueError(f"--rate must be 0 or more keyframes a second, got {arguments.rate}")
    from functools import partial

    from tqdm import tqdm

    from vggt3_ros.datasets.tum import load_tum

    sequence = load_tum(arguments.folder, odometry=arguments.odometry)
    if not len(sequence):
        raise ValueError(f"{arguments.folder} holds no keyframe")
    from vggt3_ros.ros.player import replay

    ros_arguments = ["--ros-args", *arguments.ros_args] if arguments.ros_args else []
    try:
        replay(sequence, arguments.rate, partial(tqdm, desc="keyframes sent", unit="", disable=arguments.quiet or None), wait=arguments.wait,
               odom_frame=arguments.odom_frame, camera_frame=arguments.camera_frame, ros_arguments=ros_arguments,
               start_ns=int(sequence.stamps_ns[0]) if arguments.keep_stamps else None)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
