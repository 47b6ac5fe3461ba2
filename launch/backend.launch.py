"""The back end as a lifecycle node that starts by itself; RViz on request."""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from vggt3_ros.system.environment import OMP_WAIT_POLICY

TOPICS = {"keyframes": "keyframes", "image": "image", "camera_info": "camera_info", "depth": "depth", "right_image": "right/image",
          "right_camera_info": "right/camera_info", "odometry": "odometry", "frontend_pose": "frontend_pose"}


def generate_launch_description():
    share = get_package_share_directory("vggt3_ros")
    arguments = {
        "params_file": (os.path.join(share, "config", "backend.yaml"), "YAML file with the parameters of the back end"),
        "namespace": ("", "Namespace of the node, its topics and services"),
        "store": ("", "Folder of the keyframe store, continued when it exists; empty: a new one in ~/.ros/vggt3_ros"),
        "mode": ("mapping", "mapping; or localization: localize in the map of `store`, and store nothing"),
        "input_source": ("keyframes", "keyframes, odometry, pose or pose_with_covariance: what arrives; see parameter input.source"),
        "image_transport": ("raw", "raw or compressed: which of the images arrive"),
        "depth_transport": ("none", "none, raw, compressedDepth or stereo: what depth comes from"),
        "keyframes_topic": ("keyframes", "Topic of the front end's keyframes (vggt3_ros/msg/Keyframe)"),
        "image_topic": ("image", "Topic of the images; compressed ones are on TOPIC/compressed"),
        "camera_info_topic": ("camera_info", "Topic of the images' camera_info"),
        "depth_topic": ("depth", "Topic of the depth images; compressed ones are on TOPIC/compressedDepth"),
        "right_image_topic": ("right/image", "Topic of the second camera's images, with depth_transport stereo"),
        "right_camera_info_topic": ("right/camera_info", "Topic of the second camera's camera_info"),
        "odometry_topic": ("odometry", "Topic of the odometry (nav_msgs/msg/Odometry)"),
        "frontend_pose_topic": ("frontend_pose", "Topic of the front end's poses (PoseStamped or PoseWithCovarianceStamped)"),
        "tf_topic": ("tf", "Topic of map->odom, each namespace has its own; /tf: one for all. Static frames come on TOPIC_static"),
        "map_frame": ("map", "Frame of the corrected poses and the map"),
        "publish_tf": ("true", "Broadcast map->odom"),
        "checkpoint": ("", "Weights of the network: a file, a folder or a hub id; empty: none"),
        "device": ("auto", "Where torch runs: auto, cpu, cuda, cuda:1, ..."),
        "use_sim_time": ("false", "Take time from /clock"),
        "autostart": ("true", "Configure and activate at once; false: wait for a lifecycle manager"),
        "log_level": ("info", "debug, info, warn, error or fatal"),
        "rviz": ("false", "Start RViz with map, path, loops, status and TF"),
    }
    value = {name: LaunchConfiguration(name) for name in arguments}

    def typed(name, kind):
        return ParameterValue(value[name], value_type=kind)

    tf = [("/tf", value["tf_topic"]), ("/tf_static", [value["tf_topic"], "_static"])]
    node = LifecycleNode(
        package="vggt3_ros", executable="backend", name="vggt3_ros", namespace=value["namespace"], output="screen",
        parameters=[value["params_file"], {
            "store": typed("store", str), "mode": typed("mode", str), "input.source": typed("input_source", str),
            "input.image_transport": typed("image_transport", str), "input.depth_transport": typed("depth_transport", str),
            "network.checkpoint": typed("checkpoint", str), "map_frame": typed("map_frame", str), "publish_tf": typed("publish_tf", bool),
            "device": typed("device", str), "use_sim_time": typed("use_sim_time", bool), "autostart": typed("autostart", bool)}],
        remappings=[*((topic, value[f"{name}_topic"]) for name, topic in TOPICS.items()),
                    ("image/compressed", [value["image_topic"], "/compressed"]),
                    ("right/image/compressed", [value["right_image_topic"], "/compressed"]),
                    ("depth/compressedDepth", [value["depth_topic"], "/compressedDepth"]), *tf],
        ros_arguments=["--log-level", value["log_level"]])
    rviz = Node(package="rviz2", executable="rviz2", namespace=value["namespace"], condition=IfCondition(value["rviz"]),
                arguments=["-d", os.path.join(share, "config", "backend.rviz")], remappings=tf,
                parameters=[{"use_sim_time": typed("use_sim_time", bool)}])
    declared = [DeclareLaunchArgument(name, default_value=default, description=text) for name, (default, text) in arguments.items()]
    # The worker gets its allocator from the node, which knows where it lies (vggt3_ros/system/environment.py).
    return LaunchDescription([*declared, SetEnvironmentVariable("OMP_WAIT_POLICY", OMP_WAIT_POLICY), node, rviz])
