"""Launch the back end as a lifecycle node that activates itself, and optionally RViz."""

import os

import yaml
from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from vggt3_ros.ros.node_config import NodeConfig
from vggt3_ros.ros.parameter_file import named_store
from vggt3_ros.system.environment import OMP_WAIT_POLICY

CONFIG = os.path.join(get_package_share_directory("vggt3_ros"), "config")
TOPICS = {
    "keyframes": "keyframes",
    "image": "image",
    "camera_info": "camera_info",
    "depth": "depth",
    "depth_camera_info": "depth/camera_info",
    "right_image": "right/image",
    "right_camera_info": "right/camera_info",
    "odometry": "odometry",
    "frontend_pose": "frontend_pose",
    "map": "map",
    "occupancy_grid": "occupancy_grid",
}
PARAMETERS = {
    "store": "store",
    "mode": "mode",
    "input_source": "input.source",
    "image_transport": "input.image_transport",
    "depth_transport": "input.depth_transport",
    "checkpoint": "network.checkpoint",
    "adapter": "network.adapter",
    "map_frame": "map_frame",
    "device": "device",
}
SWITCHES = "publish_tf", "use_sim_time", "autostart"  # parameters of the same name
ARGUMENTS = {
    "params_file": (
        os.path.join(CONFIG, "backend.yaml"),
        "YAML file with the parameters of the back end. It applies wherever the default of an "
        "argument is empty",
    ),
    "namespace": ("", "Namespace of the node, its topics and services"),
    "store": (
        "",
        "Folder of the keyframe store; an existing store is continued; by default a new one in ~/.ros/vggt3_ros",
    ),
    "mode": (
        "",
        "mapping; or localization: localize in the map of `store` without storing keyframes",
    ),
    "input_source": (
        "",
        "Type of input: keyframes, odometry, pose or pose_with_covariance; see parameter input.source",
    ),
    "image_transport": ("", "Transport of the images: raw or compressed"),
    "depth_transport": ("", "Source of depth: none, raw, compressedDepth or stereo"),
    "keyframes_topic": (
        "keyframes",
        "Topic of the front end's keyframes (vggt3_ros/msg/Keyframe)",
    ),
    "image_topic": ("image", "Topic of the images; compressed ones are on TOPIC/compressed"),
    "camera_info_topic": ("camera_info", "Topic of the images' camera_info"),
    "depth_topic": (
        "depth",
        "Topic of the depth images; compressed ones are on TOPIC/compressedDepth",
    ),
    "depth_camera_info_topic": (
        "depth/camera_info",
        "Topic of the depth's camera_info, if depth is in another frame than the images",
    ),
    "right_image_topic": (
        "right/image",
        "Topic of the second camera's images, with depth_transport stereo",
    ),
    "right_camera_info_topic": ("right/camera_info", "Topic of the second camera's camera_info"),
    "odometry_topic": ("odometry", "Topic of the odometry (nav_msgs/msg/Odometry)"),
    "frontend_pose_topic": (
        "frontend_pose",
        "Topic of the front end's poses (PoseStamped or PoseWithCovarianceStamped)",
    ),
    "map_topic": (
        "map",
        "Topic of the point cloud; use another name, such as map_points, if Nav2 expects its OccupancyGrid on map",
    ),
    "occupancy_grid_topic": ("occupancy_grid", "Topic of the OccupancyGrid; map for Nav2"),
    "tf_topic": (
        "tf",
        "Topic of map->odom, relative to the namespace; /tf: shared by all. Static frames are on TOPIC_static",
    ),
    "map_frame": ("", "Frame of the corrected poses and the map"),
    "publish_tf": ("", "Broadcast map->odom"),
    "checkpoint": ("", "Weights of the network: a file, a folder or a hub id"),
    "adapter": (
        "",
        "Another network, run in a process of its own: module:Class, file.py:Class or a command; see parameter network.adapter",
    ),
    "device": ("", "Where torch runs: auto, cpu, cuda, cuda:1, ..."),
    "use_sim_time": ("", "Take the time from /clock"),
    "autostart": ("", "Configure and activate at startup; false: wait for a lifecycle manager"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "rviz": ("false", "Start RViz with map, path, loops, status and TF"),
    "web": ("false", "Serve a web page of the store, in a process of its own (viser)"),
    "web_port": ("8080", "Port of that page"),
    "web_host": (
        "127.0.0.1",
        "Address of that page: this machine only, others through ssh -L; 0.0.0.0: every machine that can reach it",
    ),
}


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    # The node sets the worker's allocator, because it knows its path
    # (vggt3_ros/system/environment.py).
    return LaunchDescription(
        [
            *declared,
            SetEnvironmentVariable("OMP_WAIT_POLICY", OMP_WAIT_POLICY),
            OpaqueFunction(function=start),
        ]
    )


def start(context):
    value = {name: context.launch_configurations[name] for name in ARGUMENTS}
    parameters = read_parameters(value["params_file"])
    with_web = is_true("web", value["web"])
    if with_web:  # the page and the node must agree on the store, which the node would choose
        store = value["store"] or named_store(parameters) or str(NodeConfig().store_folder())
        value["store"] = context.launch_configurations["store"] = os.path.expanduser(store)
    given = {
        parameter: ParameterValue(LaunchConfiguration(name), value_type=str)
        for name, parameter in PARAMETERS.items()
        if value[name]
    }
    given |= {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in SWITCHES
        if value[name]
    }
    tf = [("/tf", value["tf_topic"]), ("/tf_static", f"{value['tf_topic']}_static")]
    topics = {topic: value[f"{name}_topic"] for name, topic in TOPICS.items()}
    topics |= {
        f"{topic}/{transport}": f"{topics[topic]}/{transport}"
        for topic, transport in (
            ("image", "compressed"),
            ("right/image", "compressed"),
            ("depth", "compressedDepth"),
        )
    }
    return [
        LifecycleNode(
            package="vggt3_ros",
            executable="backend",
            name="vggt3_ros",
            namespace=value["namespace"],
            output="screen",
            parameters=[value["params_file"], *([given] if given else [])],
            remappings=[*topics.items(), *tf],
            ros_arguments=["--log-level", value["log_level"]],
        ),
        rviz(value, [*topics.items(), *tf]),
        *([web(value)] if with_web else []),
    ]


def web(value):
    """It reads the store; what it shows does not pass through the node."""
    command = os.path.join(get_package_prefix("vggt3_ros"), "lib", "vggt3_ros", "vggt3")
    return ExecuteProcess(
        cmd=[
            *(command, "view", "--web", "--wait"),
            *("--port", value["web_port"], "--host", value["web_host"], value["store"]),
        ],
        name="vggt3_web",
        output="screen",
    )


def is_true(name, text):
    """A switch, as launch's conditions read it."""
    if text.lower() not in ("true", "1", "false", "0"):
        raise RuntimeError(f"{name} must be true or false, got '{text}'")
    return text.lower() in ("true", "1")


def rviz(value, remappings):
    wanted = IfCondition(value["rviz"])
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return LogInfo(msg="rviz2 is not installed: continuing without RViz", condition=wanted)
    frame = ["-f", value["map_frame"]] if value["map_frame"] else []
    time = (
        [{"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}]
        if value["use_sim_time"]
        else []
    )
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=value["namespace"],
        condition=wanted,
        remappings=remappings,
        arguments=["-d", os.path.join(CONFIG, "backend.rviz"), *frame],
        parameters=time,
    )


def read_parameters(path):
    """Return the contents of a parameter file. Raise RuntimeError if it cannot be read: launch_ros only
    warns and starts the node without it.
    """
    try:
        with open(path) as file:
            return yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RuntimeError(f"cannot read params_file: {error}") from error
