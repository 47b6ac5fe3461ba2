"""Conversion of ROS messages to the library's values. Nothing here imports ROS, so bags can be
read without an installation.
"""
