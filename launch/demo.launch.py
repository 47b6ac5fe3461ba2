"""The back end, a player in place of a front end, and RViz."""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description():
    share = get_package_share_directory("vggt3_ros")
    backend = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, "launch", "backend.launch.py")),
        launch_arguments={"rviz": LaunchConfiguration("rviz"), "store": LaunchConfiguration("store")}.items())
    player = Node(package="vggt3_ros", executable="vggt3", name="vggt3_player", output="screen",
                  arguments=["replay", LaunchConfiguration("folder"), "--rate", LaunchConfiguration("rate"), "--quiet"])
    return LaunchDescription([
        DeclareLaunchArgument("folder", description="Folder in the TUM, 7-Scenes or EuRoC layout, or a rosbag2"),
        DeclareLaunchArgument("rate", default_value="5.0", description="Keyframes a second"),
        DeclareLaunchArgument("store", default_value="", description="Folder of the keyframe store; empty: a new one"),
        DeclareLaunchArgument("rviz", default_value="true", description="Start RViz with map, path, loops, status and TF"),
        backend, player])
