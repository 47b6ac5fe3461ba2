"""Localize a robot in a saved map from keyframes or images; publish pose and map -> odom. The map
does not change.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription


def generate_launch_description():
    share = get_package_share_directory("vggt3_ros")
    passed_on = {
        "params_file": (
            os.path.join(share, "config", "backend.yaml"),
            "YAML file with the parameters of the back end. It applies wherever the default of an "
            "argument is empty",
        ),
        "namespace": ("", "Namespace of the node, its topics and services"),
        "input_source": (
            "",
            "Type of input: keyframes, odometry, pose or pose_with_covariance; see parameter input.source",
        ),
        "image_transport": ("", "Transport of the images: raw or compressed"),
        "keyframes_topic": (
            "keyframes",
            "Topic of the front end's keyframes (vggt3_ros/msg/Keyframe)",
        ),
        "image_topic": ("image", "Topic of the images; compressed ones are on TOPIC/compressed"),
        "camera_info_topic": ("camera_info", "Topic of the images' camera_info"),
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
        "map_frame": ("", "Frame of the map"),
        "publish_tf": ("", "Broadcast map->odom"),
        "device": ("", "Where torch runs: auto, cpu, cuda, cuda:1, ..."),
        "use_sim_time": ("", "Take the time from /clock"),
        "autostart": (
            "",
            "Configure and activate at startup; false: wait for a lifecycle manager",
        ),
        "log_level": ("info", "debug, info, warn, error or fatal"),
        "rviz": ("false", "Start RViz with map, path, loops, status and TF"),
        "web": (
            "false",
            "Serve a page of the store for browsers, in a process of its own (viser)",
        ),
        "web_port": ("8080", "Port of that page"),
        "web_host": (
            "127.0.0.1",
            "Address of that page: this machine alone, others by ssh -L; 0.0.0.0: whoever reaches it",
        ),
    }
    backend = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, "launch", "backend.launch.py")),
        launch_arguments={
            "store": LaunchConfiguration("map"),
            "mode": "localization",
            **{name: LaunchConfiguration(name) for name in passed_on},
        }.items(),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "map",
                description="Folder of a map written by the service save_map (~/.ros/vggt3_ros/maps/NAME)",
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in passed_on.items()
            ),
            backend,
        ]
    )
