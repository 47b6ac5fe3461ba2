"""ROS messages to the values the library works with. Nothing here imports ROS: bags are read
without an installation.
"""
