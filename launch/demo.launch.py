"""Launch the back end, a player as its front end, and RViz."""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import IfElseSubstitution, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description():
    share = get_package_share_directory("vggt3_ros")
    # Arguments shared by the back end and the player, or with other defaults here. All others reach
    # the back end unchanged.
    passed_on = {
        "namespace": ("", "Namespace of back end and player, their topics and services"),
        "keyframes_topic": ("keyframes", "Topic of the keyframes"),
        "tf_topic": (
            "tf",
            "Topic of map->odom and odom->camera, relative to the namespace; /tf: shared by all",
        ),
        "use_sim_time": (
            "false",
            "Keep the recorded stamps; the player publishes their time on /clock",
        ),
        "store": ("", "Folder of the keyframe store; empty: a new one"),
        "rviz": ("true", "Start RViz with map, path, loops, status and TF, if it is installed"),
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
    value = {name: LaunchConfiguration(name) for name in passed_on}
    backend = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, "launch", "backend.launch.py")),
        launch_arguments=value.items(),
    )
    player = Node(
        package="vggt3_ros",
        executable="vggt3",
        name="vggt3_player",
        namespace=value["namespace"],
        output="screen",
        arguments=[
            "replay",
            LaunchConfiguration("folder"),
            "--rate",
            LaunchConfiguration("rate"),
            "--quiet",
            "--clock",
            IfElseSubstitution(value["use_sim_time"], "100", "0"),
        ],
        remappings=[("keyframes", value["keyframes_topic"]), ("/tf", value["tf_topic"])],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "folder", description="Folder in the TUM, 7-Scenes or EuRoC layout, or a rosbag2"
            ),
            DeclareLaunchArgument("rate", default_value="5.0", description="Keyframes per second"),
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in passed_on.items()
            ),
            backend,
            player,
        ]
    )
