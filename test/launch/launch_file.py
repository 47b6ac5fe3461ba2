"""Run one launch file until interrupted, as `ros2 launch` does: launch_file.py PATH name:=value
...
"""

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

service = LaunchService()
service.include_launch_description(
    LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(sys.argv[1]),
                launch_arguments=[argument.split(":=", 1) for argument in sys.argv[2:]],
            )
        ]
    )
)
raise SystemExit(service.run())
