"""`pip install .`: the ROS-free library and the vggt3 command. In a ROS workspace colcon builds
from CMakeLists.txt instead.
"""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["vggt3_ros", "vggt3_ros.*"]),
    entry_points={"console_scripts": ["vggt3 = vggt3_ros.cli.main:main"]},
)
