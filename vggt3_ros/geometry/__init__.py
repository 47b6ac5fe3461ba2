"""Rigid transforms, cameras, stereo and alignment, on numpy arrays. No torch, no ROS."""
